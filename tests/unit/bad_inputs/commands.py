"""Bad words on the command line and in environment variables."""

from tests.unit.bad_inputs.case import BAD, MISSING, REFUSED, USAGE, Case, env, host

FLAGS = (
    Case(
        "a host with a typing error",
        "flash --host rpc1 --dry-run",
        MISSING,
        ("there is no host rpc1", "did you mean rpc-1?"),
    ),
    Case(
        "a recipe with a typing error",
        "bake --recipe dmo --version 1",
        MISSING,
        ("there is no recipe 'dmo'", "did you mean demo?"),
    ),
    Case(
        "a path in place of a name",
        "bake --recipe ../../etc/passwd --version 1",
        MISSING,
        ("there is no recipe '../../etc/passwd'",),
    ),
    Case("a version that was never baked", "flash --host rpc-1 --version 9.9.9 --dry-run", MISSING, ("9.9.9", "0.1.0")),
    Case("a version that is no version", "bake --recipe demo --version 1/2", USAGE, ("'1/2' is no version",)),
    Case("a bake without a version", "bake --recipe demo", USAGE, ("--version 0.1.0",)),
    Case(
        "a layer that the recipe lacks", "bake --recipe demo --only tol", USAGE, ("no layer tol", "did you mean tool?")
    ),
    Case(
        "an output that does not exist",
        "bake --recipe demo --version 1 --output raww",
        USAGE,
        ("raww", "did you mean raw?"),
    ),
    Case(
        "a door that does not exist", "flash --host rpc-1 --door window", USAGE, ("there is no door window", "in_place")
    ),
    Case(
        "a state that does not exist", "flash --host rpc-1 --yes --until AMRED", USAGE, ("AMRED", "did you mean ARMED?")
    ),
    Case(
        "a channel that does not exist", "images promote 0.1.0 --recipe demo --to prod", USAGE, ("prod", "production")
    ),
    Case("an option with a typing error", "flash --hots rpc-1", USAGE, ("--hots", "--host")),
    Case("a command with a typing error", "flsh", USAGE, ("flsh", "flash")),
    Case("a number out of range", "drift --host rpc-1 --every 1", USAGE, ("--every", "30")),
    Case("both of two that exclude each other", "push --host rpc-1 --env development", USAGE, ("--host or --env",)),
    Case("nobody at the keyboard to ask", "rollback --host rpc-1", USAGE, ("nobody can be asked", "--yes")),
    Case(
        "a day that is none",
        "images waive CVE-2026-1234 --package zlib --reason unreachable --expires tomorrow --recipe demo",
        USAGE,
        ("expires", "'tomorrow'", "YYYY-MM-DD"),
    ),
    Case("firmware that does not exist", "lab up --firmware efi", USAGE, ("efi", "uefi")),
    Case("a role of keys that does not exist", "keys rotate bild", USAGE, ("bild", "did you mean build?")),
    Case("a secret that no host names", "secrets rotate ghost --host rpc-1 --dry-run", MISSING, ("ghost",)),
    Case("a load on nobody", "bench load", USAGE, ("--host or --env",)),
    Case("a load that lasts for no time", "bench load --host rpc-1 --for soon", USAGE, ("--for 'soon'", "60s")),
    Case(
        "a kind of load that does not exist",
        "bench load --host rpc-1 --kind strem",
        USAGE,
        ("strem", "did you mean stream?"),
    ),
    Case(
        "more load than an environment allows",
        "bench load --host rpc-1 --rps 9999 --dry-run",
        REFUSED,
        ("--rps is 9999, development allows 500", "bench.max_rps"),
    ),
    Case(
        "load on production",
        "bench load --host rpc-1 --dry-run",
        REFUSED,
        ("production allows no load", "bench.allow_load"),
        host(environment="production"),
    ),
    Case(
        "versions that were never measured",
        "bench compare 0.1.0 0.1.0 --recipe demo",
        MISSING,
        ("was measured", "qtrade bench load"),
    ),
    Case("a schema that does not exist", "schema hosts", MISSING, ("hosts", "did you mean host?")),
)

ENVIRONMENTS = (
    Case(
        "QTRADE_PROJECT that is no folder",
        "hosts list",
        BAD,
        ("QTRADE_PROJECT is '/nonexistent'",),
        env(PROJECT="/nonexistent"),
    ),
    Case(
        "QTRADE_STATE_DIR that mounts cannot name",
        "hosts list",
        BAD,
        ("','", "QTRADE_STATE_DIR"),
        env(STATE_DIR="/srv/a,b"),
    ),
    Case(
        "QTRADE_STATE_DIR that is a file",
        "keys init",
        BAD,
        ("QTRADE_STATE_DIR", "manifests/ids.yaml"),
        lambda place: place.environment.update(QTRADE_STATE_DIR=str(place.project / "manifests/ids.yaml")),
    ),
    Case(
        "QTRADE_STORE of an unknown kind",
        "images list",
        BAD,
        ("QTRADE_STORE is 'ftp://images'", "s3://bucket/prefix"),
        env(STORE="ftp://images"),
    ),
    Case(
        "QTRADE_S3_ENDPOINT that is no URL",
        "images list",
        BAD,
        ("QTRADE_S3_ENDPOINT is 's3.example.org'",),
        env(STORE="s3://images", S3_ENDPOINT="s3.example.org"),
    ),
    Case(
        "QTRADE_S3_CHECKSUMS of an unknown kind",
        "images list",
        BAD,
        ("QTRADE_S3_CHECKSUMS is 'never'", "when_required"),
        env(STORE="s3://images", S3_CHECKSUMS="never"),
    ),
    Case("QTRADE_LOG of an unknown kind", "hosts list", BAD, ("QTRADE_LOG is 'xml'", "json"), env(LOG="xml")),
)
