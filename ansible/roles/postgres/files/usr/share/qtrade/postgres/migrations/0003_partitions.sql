-- expand: partitions by time, made ahead and dropped when they are older than is kept
CREATE TABLE partition_rules (
    parent text PRIMARY KEY,
    unit text NOT NULL CHECK (unit IN ('day', 'month')),
    ahead integer NOT NULL CHECK (ahead > 0),
    keep_days integer NOT NULL CHECK (keep_days >= 0)
);
COMMENT ON COLUMN partition_rules.keep_days IS '0: for ever';
INSERT INTO partition_rules VALUES ('quotes', 'day', 3, 30), ('opportunities', 'month', 1, 365);

-- Rows of a time that has no partition (a wrong clock) go here, so that no insert ever fails for it.
CREATE TABLE partitions.quotes_default PARTITION OF quotes DEFAULT;
CREATE TABLE partitions.opportunities_default PARTITION OF opportunities DEFAULT;

CREATE FUNCTION make_partitions() RETURNS SETOF text LANGUAGE plpgsql SET timezone = 'UTC' AS $function$
DECLARE
    rule record;
    one_unit interval;
    begins timestamptz;
    name text;
BEGIN
    FOR rule IN SELECT * FROM partition_rules ORDER BY parent LOOP
        one_unit := ('1 ' || rule.unit)::interval;
        FOR number IN 0..rule.ahead LOOP
            begins := date_trunc(rule.unit, now()) + number * one_unit;
            name := rule.parent || to_char(begins, '_YYYYMMDD');
            CONTINUE WHEN to_regclass('partitions.' || name) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE partitions.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L) WITH ('
                    'autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, '
                    'autovacuum_freeze_min_age = 0)',
                    name, rule.parent, begins, begins + one_unit);
                RETURN NEXT 'made ' || name;
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'partitions.%_default holds rows of %, so it gets no partition: move them', rule.parent, begins;
            END;
        END LOOP;
    END LOOP;
END
$function$;

CREATE FUNCTION drop_partitions() RETURNS SETOF text LANGUAGE plpgsql SET timezone = 'UTC' AS $function$
DECLARE
    old record;
BEGIN
    FOR old IN
        SELECT child.relname AS name
        FROM partition_rules AS rule
        JOIN pg_inherits ON inhparent = to_regclass('public.' || rule.parent)
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE rule.keep_days > 0 AND child.relname ~ ('^' || rule.parent || '_\d{8}$')
            AND to_date(right(child.relname, 8), 'YYYYMMDD')::timestamptz + ('1 ' || rule.unit)::interval
                < now() - make_interval(days => rule.keep_days)
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE partitions.%I', old.name);
        RETURN NEXT 'dropped ' || old.name;
    END LOOP;
END
$function$;
