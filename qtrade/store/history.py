"""The history of deploys in the store: what began and how it ended, each a small object that is written once.

Many controllers write at once and none waits for another: an object's name begins with the time and ends with a number that nobody
else has. A deploy without an end is one that still runs, or whose controller died.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from qtrade.actor import Actor, Run, read_actor
from qtrade.errors import QtradeError, TrustError
from qtrade.redaction import redact
from qtrade.store.objects import Missing, Objects, key_of

_FOLDER = "history/"
_KEY = re.compile(r"history/([^/]+)/(hosts|channels)/([^/]+)/(\d{8}T\d{6}\.\d{6}Z)-([0-9a-f]{16})\.(begun|ended)\.json")
_SIDE_BY_SIDE = 8


class Kind(StrEnum):
    """What a deploy is. `abort` is the end of an open flash by its operator."""

    FLASH = "flash"
    PUSH = "push"
    ROLLBACK = "rollback"
    ABORT = "abort"
    PROMOTE = "promote"


class Outcome(StrEnum):
    """How a deploy ended; `stopped` where it was told to stop before its end; `unknown` where no end was written."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Deploy:
    """What begins: of a host, or of a channel (`host` is empty then). `inputs` are what it was asked for; `at` in Unix seconds."""

    kind: Kind
    environment: str
    host: str
    recipe: str
    version: str
    image: str
    inputs: dict[str, Any] = field(default_factory=dict)
    actor: Actor = field(default_factory=read_actor)
    at: float = field(default_factory=lambda: round(time.time(), 6))
    id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Ending:
    """How it ended. `version`, `image` and `generation` are what the host has now, empty where that is what it had before or unknown."""

    outcome: Outcome
    at: float = 0.0
    state: str = ""
    version: str = ""
    image: str = ""
    generation: str = ""
    error: str = ""


@dataclass(frozen=True)
class Past:
    """A deploy with its end."""

    deploy: Deploy
    ending: Ending


@dataclass
class Progress:
    """What a deploy under way says of itself; `ending` counts if nothing is raised."""

    deploy: Deploy
    ending: Ending = field(default_factory=lambda: Ending(Outcome.DONE))


class History:
    """Reads and writes the history below `history/` of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def begin(self, deploy: Deploy) -> None:
        """Write that a deploy begins."""
        self._put(deploy, "begun", asdict(deploy))

    def end(self, deploy: Deploy, ending: Ending) -> None:
        """Write how it ended."""
        self._put(deploy, "ended", asdict(ending))

    def read(self, *, environment: str = "", host: str = "", last: int | None = None) -> tuple[Past, ...]:
        """Return deploys, newest first, at most `last`; only those that are asked for are read. Raises `TrustError` for damage."""
        found: dict[str, dict[str, str]] = {}
        folder = f"{key_of('history', environment)}/" if environment else _FOLDER
        for entry in self._objects.list(folder):
            match = _KEY.fullmatch(entry.key)
            if match and (not host or (match[2], match[3]) == ("hosts", host)):
                found.setdefault(f"{match[4]}-{match[5]}", {})[match[6]] = entry.key
        begun = [found[stamp] for stamp in sorted(found, reverse=True) if "begun" in found[stamp]]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return tuple(past for past in pool.map(self._read, begun[:last]) if past is not None)

    def _read(self, keys: dict[str, str]) -> Past | None:
        try:
            deploy = _parse_deploy(self._fields(keys["begun"]))
            ending = _parse_ending(self._fields(keys["ended"])) if "ended" in keys else Ending(Outcome.UNKNOWN)
        except Missing:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise TrustError(
                f"{keys['begun']} is damaged in the store",
                details=str(error),
                resolution="look at it, and delete it there",
            ) from error
        return Past(deploy, ending)

    def _fields(self, key: str) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self._objects.get(key)[0])
        version = fields.pop("schema_version")
        if version != 1:
            raise ValueError(f"schema_version is {version!r}; this qtrade reads 1")
        return fields

    def _put(self, deploy: Deploy, part: str, fields: dict[str, Any]) -> None:
        text = redact(json.dumps({"schema_version": 1, **fields}, sort_keys=True))
        self._objects.put_new(f"{_place(deploy)}.{part}.json", text.encode())


@contextmanager
def recorded(objects: Objects, deploy: Deploy, warn: Callable[[str], None]) -> Iterator[Progress]:
    """Write that a deploy begins, and how it ended, whatever ends it. The block may set `ending` of what it is given.

    Nothing begins that could not be written down. An end that cannot be written is only warned of: what was done is done.
    """
    history = History(objects)
    history.begin(deploy)
    progress = Progress(deploy)
    try:
        yield progress
    except BaseException as error:
        said = error.brief if isinstance(error, QtradeError) else repr(error)
        before = progress.ending
        _end(history, deploy, Ending(Outcome.FAILED, round(time.time(), 6), before.state, error=said[:1000]), warn)
        raise
    _end(history, deploy, progress.ending, warn)


def _end(history: History, deploy: Deploy, ending: Ending, warn: Callable[[str], None]) -> None:
    fields = {**asdict(ending), "at": round(time.time(), 6)}
    try:
        history.end(deploy, Ending(**fields))
    except (QtradeError, OSError) as error:
        warn(f"warning: the end of this {deploy.kind} is not in the history: {error}")


def _place(deploy: Deploy) -> str:
    whole, micros = divmod(round(deploy.at * 10**6), 10**6)
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(whole))}.{micros:06}Z"
    kind, name = ("hosts", deploy.host) if deploy.host else ("channels", deploy.recipe)
    return key_of("history", deploy.environment, kind, name, f"{stamp}-{deploy.id}")


def _parse_deploy(fields: dict[str, Any]) -> Deploy:
    by = fields["actor"]
    actor = Actor(by["who"], by["where"], Run(**by["run"]) if by["run"] else None)
    return Deploy(**{**fields, "kind": Kind(fields["kind"]), "actor": actor})


def _parse_ending(fields: dict[str, Any]) -> Ending:
    return Ending(**{**fields, "outcome": Outcome(fields["outcome"])})
