-- expand: who reaches what; the roles themselves are the cluster's (roles.sql)
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO qtrade_client, qtrade_readonly, qtrade_metrics;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO qtrade_readonly;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT SELECT ON schema_migrations TO qtrade_readonly, qtrade_metrics, qtrade_client;

-- Partitions stand apart from the tables that people look for.
CREATE SCHEMA partitions;
GRANT USAGE ON SCHEMA partitions TO qtrade_readonly;
