-- Roles belong to the cluster, not to a database: they are brought to this state at every boot, so that a restored or adopted cluster has them.
-- Who logs in by socket is known by the account (pg_ident.conf); passwords for TCP come as secrets (set_passwords.py).
DO $roles$
DECLARE
    wanted text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qtrade_owner') THEN
        CREATE ROLE qtrade_owner NOLOGIN;
    END IF;
    FOREACH wanted IN ARRAY ARRAY['qtrade_client', 'qtrade_readonly', 'qtrade_metrics', 'qtrade_backup'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        END IF;
    END LOOP;
END
$roles$;

-- An idle transaction keeps autovacuum from its work.
ALTER ROLE qtrade_client SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE qtrade_readonly SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE qtrade_readonly SET statement_timeout = '5min';
ALTER ROLE qtrade_readonly SET default_transaction_read_only = on;
ALTER ROLE qtrade_metrics SET statement_timeout = '15s';
ALTER ROLE qtrade_metrics SET default_transaction_read_only = on;

-- Settings and statistics, for operators and collectors.
GRANT pg_monitor TO qtrade_readonly, qtrade_metrics;
-- What pgBackRest asks the server for; files it reads as the server's own account.
GRANT pg_read_all_settings, pg_checkpoint TO qtrade_backup;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(), pg_create_restore_point(text) TO qtrade_backup;
