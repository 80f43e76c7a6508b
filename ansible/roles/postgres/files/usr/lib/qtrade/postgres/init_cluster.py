"""Make the cluster on the data disk when there is none, adopt one of the same major version, refuse everything else."""

import shutil
import subprocess
import sys
from pathlib import Path

MAJOR = "17"
CONFIG = Path("/etc/postgresql/17/main/postgresql.conf")
INITDB = "/usr/lib/postgresql/17/bin/initdb"


def read_data_directory(config: Path) -> Path:
    """Return the cluster's directory as the server will read it."""
    for line in config.read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "data_directory":
            return Path(value.strip().strip("'"))
    raise ValueError(f"{config} has no data_directory")


def make_cluster(data: Path) -> None:
    """Make the cluster beside its place and move it there whole: a power cut leaves none, never half a one."""
    new = data.with_name(data.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    options = [
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums",
    ]
    subprocess.run([INITDB, "--pgdata", str(new), *options], check=True)
    if data.exists():
        data.rmdir()
    new.rename(data)


def main() -> None:
    """Exit 0 when there is a cluster to start; say why not otherwise."""
    data = read_data_directory(CONFIG)
    version = data / "PG_VERSION"
    if version.is_file():
        found = version.read_text().strip()
        if found != MAJOR:
            sys.exit(f"{data} is of PostgreSQL {found}, this image has {MAJOR}: upgrade it by hand (pg_upgrade)")
        return
    if data.is_dir() and any(data.iterdir()):
        sys.exit(f"{data} is not empty and no cluster: nothing is made there")
    make_cluster(data)


if __name__ == "__main__":
    main()
