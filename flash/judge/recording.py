"""Records: samples as JSON lines, written as they come and read line by line, so that a judgement can be had again from the file.

A line is `{"schema_version": 1, "record": "run", …}`, which says who is canary and control, or `{"record": "sample", …}`. Two records put
one behind the other are a record.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from flash.judge.record import Sample
from flash.lines import cut_torn
from qtrade.errors import BadInput, NotFound

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Run:
    """What is judged: when each canary got the new version (Unix seconds), the controls, and the roles of the image."""

    version: str
    deployed_at: dict[str, float] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def joined(self, other: "Run") -> "Run":
        """Return both as one: a later deploy of a host counts, and a canary of either is no control."""
        deployed = {**self.deployed_at}
        for host, at in other.deployed_at.items():
            deployed[host] = max(at, deployed.get(host, at))
        controls = tuple(sorted({*self.controls, *other.controls} - set(deployed)))
        return Run(max(self.version, other.version), deployed, controls, tuple(sorted({*self.roles, *other.roles})))


class Recorder:
    """Appends to a record. Each line is whole or not there; what a crash cut off is written over, as in a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        cut_torn(self._sink.fileno())
        self._sink.seek(0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, run: Run) -> None:
        """Write what is judged, and flush it to disk: without it the samples cannot be read again."""
        self._write({"schema_version": SCHEMA_VERSION, "record": "run", **asdict(run)})
        os.fsync(self._sink.fileno())

    def add(self, samples: Iterable[Sample]) -> None:
        """Write samples. A value that JSON has no number for is written as none, and its detail names it."""
        for sample in samples:
            fields = asdict(sample)
            if sample.value is not None and not math.isfinite(sample.value):
                fields |= {"value": None, "detail": f"{sample.value}: {sample.detail}".rstrip(": ")}
            self._write({"record": "sample", **fields})

    def close(self) -> None:
        """Close the file."""
        self._sink.close()

    def _write(self, fields: dict[str, Any]) -> None:
        self._sink.write(json.dumps(fields, sort_keys=True, allow_nan=False).encode() + b"\n")
        self._sink.flush()


def read_run(path: Path) -> Run:
    """Return what the record says is judged. Raises `BadInput`, also for a record without a run, and `NotFound`."""
    found: Run | None = None
    for one in _read(path):
        if isinstance(one, Run):
            found = one if found is None else found.joined(one)
    if found is None:
        raise BadInput(f"{path} does not say what is judged", resolution='begin it with a line `"record": "run"`')
    return found


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples as they stand there. Raises `BadInput` that names the line, and `NotFound`."""
    return (one for one in _read(path) if isinstance(one, Sample))


def _read(path: Path) -> Iterator[Run | Sample]:
    try:
        lines = path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", resolution="name the record of a rollout") from error
    except (IsADirectoryError, PermissionError) as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", resolution="name the record of a rollout") from error
    with lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                # A crash cut it off: it was never written.
                return
            yield _parse(path, number, line)


def _parse(path: Path, number: int, line: bytes) -> Run | Sample:
    try:
        fields = json.loads(line)
        kind = fields["record"]
        if kind == "sample":
            value = fields["value"]
            return Sample(
                _text(fields["host"]), _text(fields["metric"]), _number(fields["at"]),
                None if value is None else _number(value), _text(fields.get("detail", "")),
            )  # fmt: skip
        version = fields["schema_version"] if kind == "run" else None
        if version == SCHEMA_VERSION:
            return _parse_run(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise BadInput(
            f"{path} is no record of samples",
            details=f"  {path}:{number}: {what}",
            resolution="take the file that a rollout wrote, or mend the line",
        ) from error
    found = f"found a {kind!r:.40}" + (f" of schema_version {version!r:.40}" if kind == "run" else "")
    raise BadInput(
        f"{path} holds what this qtrade does not know",
        details=f"  {path}:{number}: {found}; a run of schema_version {SCHEMA_VERSION} and samples are known",
        resolution="update qtrade, or mend the line",
    )


def _parse_run(fields: dict[str, Any]) -> Run:
    deployed = {_text(host): _number(at) for host, at in fields["deployed_at"].items()}
    controls, roles = (tuple(map(_text, fields[name])) for name in ("controls", "roles"))
    return Run(_text(fields["version"]), deployed, controls, roles)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)
