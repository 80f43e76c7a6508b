-- Every day: partitions ahead, old ones away, and statistics of the partitioned tables, which autovacuum does not gather.
SET ROLE qtrade_owner;
SET lock_timeout = '10s';
SELECT make_partitions();
SELECT drop_partitions();
ANALYZE quotes;
ANALYZE opportunities;
