-- Roles are known by their account on the host (pg_ident.conf); none has a password.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qtrade_client') THEN
        CREATE ROLE qtrade_client LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qtrade_readonly') THEN
        CREATE ROLE qtrade_readonly LOGIN;
    END IF;
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO qtrade_client, qtrade_readonly;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE ON TABLES TO qtrade_client;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO qtrade_client;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO qtrade_readonly;
GRANT SELECT ON schema_migrations TO qtrade_readonly;
-- Settings and statistics, for operators and the collector.
GRANT pg_monitor TO qtrade_readonly;
