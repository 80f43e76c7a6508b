#!/usr/bin/python3 -IB
"""Write a bounded number of rows into a schema of its own at a fixed rate, time each from when it was due, and remove the schema again.

pgbench with `--rate` does not wait for slow writes, and counts a late one from its due time. For the account postgres; prints JSON.
"""

import argparse
import contextlib
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SERVER = Path("/usr/share/qtrade/postgres/server.json")
SCHEMA = "qtrade_bench"
MAX_ROWS, MAX_SECONDS = 1_000_000, 3600
CLIENTS = 4
ROW_BYTES = 200
# Rows, their index and their WAL, several times over.
_BYTES_PER_ROW = 4096
_FREE_BYTES = 1 << 30
_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
_MAKE = f"""
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC;
CREATE TABLE {SCHEMA}.writes (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), client int NOT NULL, body text NOT NULL);
"""
_DROP = f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;"
_WRITE = f"INSERT INTO {SCHEMA}.writes (client, body) VALUES (:client_id, repeat('x', {ROW_BYTES}));\n"  # noqa: S608 - constants


class RefusedError(Exception):
    """It cannot be measured as things are."""


def quantiles(microseconds: Sequence[int]) -> dict[str, float]:
    """Return the quantiles in milliseconds, by nearest rank; nothing where there are no values."""
    ordered = sorted(microseconds)
    ranks = {name: max(math.ceil(share * len(ordered)), 1) - 1 for name, share in _QUANTILES.items()}
    return {name: round(ordered[rank] / 1000, 3) for name, rank in ranks.items() if ordered}


def read_log(text: str) -> list[int]:
    """Return the microseconds of each transaction in pgbench's log: the third field, from when it was due; failed ones have none."""
    fields = [line.split() for line in text.splitlines()]
    return [int(line[2]) for line in fields if len(line) >= 6 and line[2].isdigit()]


def judge(latencies: Sequence[int], rows: int, seconds: float, said: str, code: int) -> dict[str, Any]:
    """Return the result; one that is not whole says why."""
    reasons = [f"pgbench ended with code {code}: {said.strip()[-150:]}"] if code else []
    if len(latencies) < rows:
        reasons.append(f"{len(latencies)} of {rows} rows were written")
    return {
        **{f"write_{name}": value for name, value in quantiles(latencies).items()},
        "writes_per_s": round(len(latencies) / seconds, 3) if seconds else 0.0,
        "reasons": reasons,
    }


def refuse_full_disk(server: dict[str, Any], rows: int) -> None:
    """Raise `RefusedError` when the data disk would have too little room left."""
    disk = os.statvfs(server["data_directory"])
    free = disk.f_bavail * disk.f_frsize
    if free < _FREE_BYTES + rows * _BYTES_PER_ROW:
        raise RefusedError(f"the data disk has {free >> 20} MiB left")


@contextlib.contextmanager
def own_schema(psql: Sequence[str]) -> Iterator[None]:
    """Make the schema, and remove it whatever happens."""
    subprocess.run(psql, input=_MAKE, text=True, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(psql, input=_DROP, text=True, check=True, capture_output=True)


def measure(server: dict[str, Any], rate: int, seconds: int) -> dict[str, Any]:
    """Write `rate` rows a second for `seconds`. Raises `RefusedError`, `subprocess.CalledProcessError` where the server does not answer."""
    folder = Path(f"/usr/lib/postgresql/{server['major']}/bin")
    if not (folder / "pgbench").is_file():
        raise RefusedError("the image has no pgbench")
    rows = max(rate * seconds // CLIENTS, 1) * CLIENTS
    refuse_full_disk(server, rows)
    psql = (str(folder / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={server['database']}")
    with tempfile.TemporaryDirectory(prefix="qtrade-bench-") as name, own_schema(psql):
        work = Path(name)
        (work / "write.sql").write_text(_WRITE)
        argv = [
            folder / "pgbench", "--no-vacuum", f"--client={CLIENTS}", "--jobs=1", f"--rate={rate}",
            f"--transactions={rows // CLIENTS}", "--log", f"--log-prefix={work / 'log'}", f"--file={work / 'write.sql'}",
            server["database"],
        ]  # fmt: skip
        start = time.monotonic()
        # Twice the time is enough for a server that is behind; one that hangs is left alone then.
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=2 * seconds + 30)
        took = time.monotonic() - start
        latencies = [value for path in sorted(work.glob("log*")) for value in read_log(path.read_text())]
        return judge(latencies, rows, took, done.stderr, done.returncode)


def stop(number: int, frame: Any) -> None:
    """End in order: what was made is removed."""
    del frame
    sys.exit(128 + number)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    asked = parser.parse_args()
    if not 1 <= asked.seconds <= MAX_SECONDS or not 1 <= asked.rate * asked.seconds <= MAX_ROWS:
        parser.error(f"at most {MAX_SECONDS} seconds and {MAX_ROWS} rows")
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, stop)
    try:
        with SERVER.open() as baked:
            fcntl.flock(baked, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two would write into one schema
            os.chdir("/")
            result = measure(json.load(baked), asked.rate, asked.seconds)
    except BlockingIOError:
        result = {"missing": "another measurement runs"}
    except RefusedError as refusal:
        result = {"missing": str(refusal)}
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", "") or error)
        result = {"reasons": [f"the server did not do it: {said.strip()[-150:]}"]}
    sys.stdout.write(json.dumps({"result": result}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
