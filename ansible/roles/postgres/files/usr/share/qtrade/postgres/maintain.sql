-- Every day: partitions ahead, old ones away, and statistics of the partitioned tables, which autovacuum does not gather.
SET ROLE qtrade_owner;
-- Inserts queue behind who waits for a whole table: give up soon, the unit tries again.
SET lock_timeout = '1s';
SELECT make_partitions();
SELECT drop_partitions();
ANALYZE quotes;
ANALYZE opportunities;
