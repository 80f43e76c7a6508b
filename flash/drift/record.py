"""What was enforced and told in an environment, on disk below the state directory: rates are kept across commands and restarts."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qtrade.errors import BadInput
from qtrade.settings import Settings


@dataclass(frozen=True)
class Enforced:
    """A cure that was begun on a host, by policy. `at` is Unix seconds."""

    host: str
    at: float
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """The drift of a host that was told last: a digest of it, empty for none, and when."""

    digest: str
    at: float


@dataclass
class Record:
    """The record of one environment; newest last."""

    enforced: list[Enforced] = field(default_factory=list)
    told: dict[str, Told] = field(default_factory=dict)


@contextmanager
def record_of(settings: Settings, environment: str) -> Iterator[Record]:
    """Read the record, let the block change it, and write it: one process at a time. Raises `BadInput` for a file that is none.

    A record that cannot be read allows nothing: a rate that nobody knows is no rate.
    """
    path = settings.state_dir / "drift" / f"{environment}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = _read(path)
        yield record
        _write(path, record)


def _read(path: Path) -> Record:
    if not path.exists():
        return Record()
    try:
        fields = json.loads(path.read_text())
        enforced = [Enforced(one["host"], float(one["at"]), tuple(one["steps"])) for one in fields["enforced"]]
        return Record(enforced, {host: Told(one["digest"], float(one["at"])) for host, one in fields["told"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is no record of drift",
            details=repr(error),
            resolution="look at it, and move it away: the rates begin anew",
        ) from error


def _write(path: Path, record: Record) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("w") as sink:
        json.dump({"schema_version": 1, **asdict(record)}, sink, sort_keys=True)
        sink.flush()
        os.fsync(sink.fileno())
    fresh.replace(path)
