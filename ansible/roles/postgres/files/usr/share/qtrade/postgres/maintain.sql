-- Every day: partitions ahead, old ones away, and statistics: of the partitioned tables, which autovacuum does not gather, and of the others,
-- which it leaves until they change, while pg_upgrade and a load bring none along.
SET ROLE qtrade_owner;
-- Inserts queue behind who waits for a whole table: give up soon, the unit tries again.
SET lock_timeout = '1s';
SELECT make_partitions();
SELECT drop_partitions();
ANALYZE quotes;
ANALYZE opportunities;
ANALYZE trades;
ANALYZE pools;
