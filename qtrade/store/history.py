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
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from qtrade.actor import Actor, Run, read_actor
from qtrade.errors import QtradeError, TrustError
from qtrade.redaction import redact
from qtrade.store.objects import Missing, Objects, key_of

_KEY = re.compile(
    r"history/(?P<month>\d{4}-\d{2})/(?P<environment>[^/]+)/(?P<of>hosts|channels)/(?P<name>[^/]+)/"
    r"(?P<stamp>\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16})\.(?P<kind>[a-z]+)\.(?P<part>begun|ended)\.json"
)
# Where reading stops: no deploy is older than this.
_FIRST_MONTH = "2026-01"
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


@dataclass(frozen=True)
class Mark:
    """A deploy as the listing of the store shows it, before anything of it is read: `host` is empty for a channel's."""

    environment: str
    host: str
    kind: str
    stamp: str
    begun: str
    ended: str = ""


class History:
    """Reads and writes the history below `history/` of a store, by months: what is asked for most is the newest."""

    def __init__(self, objects: Objects, *, clock: Callable[[], float] = time.time) -> None:
        self._objects, self._clock = objects, clock

    def begin(self, deploy: Deploy) -> None:
        """Write that a deploy begins."""
        self._put(deploy, "begun", asdict(deploy))

    def end(self, deploy: Deploy, ending: Ending) -> None:
        """Write how it ended."""
        self._put(deploy, "ended", asdict(ending))

    def marks(self, *, environment: str = "", host: str = "") -> Iterator[Mark]:
        """Give deploys, newest first; listings of earlier months are asked for as they are needed."""
        for month in _months(self._clock()):
            yield from self._marks(f"history/{month}/{f'{key_of(environment)}/' if environment else ''}", host)

    def read(self, *, environment: str = "", host: str = "", last: int | None = None) -> tuple[Past, ...]:
        """Return deploys, newest first, at most `last`; only those are read. Raises `TrustError` for damage."""
        wanted = islice(self.marks(environment=environment, host=host), last)
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return tuple(past for past in pool.map(self.open, wanted) if past is not None)

    def open(self, mark: Mark) -> Past | None:
        """Read a deploy; None where it was deleted meanwhile. Raises `TrustError` for damage."""
        try:
            deploy = _parse_deploy(self._fields(mark.begun))
            ending = _parse_ending(self._fields(mark.ended)) if mark.ended else Ending(Outcome.UNKNOWN)
        except Missing:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise TrustError(
                f"{mark.begun} is damaged in the store",
                details=str(error),
                resolution="look at it, and delete it there",
            ) from error
        return Past(deploy, ending)

    def _marks(self, folder: str, host: str) -> Iterator[Mark]:
        found: dict[str, Mark] = {}
        matches = (_KEY.fullmatch(entry.key) for entry in self._objects.list(folder))
        # An end is listed after its beginning.
        for match in sorted((match for match in matches if match), key=lambda match: match["part"]):
            of_host = match["name"] if match["of"] == "hosts" else ""
            if host and of_host != host:
                continue
            stamp = match["stamp"]
            if match["part"] == "begun":
                found[stamp] = Mark(match["environment"], of_host, match["kind"], stamp, match[0])
            elif stamp in found:
                found[stamp] = replace(found[stamp], ended=match[0])
        yield from sorted(found.values(), key=lambda mark: mark.stamp, reverse=True)

    def _fields(self, key: str) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self._objects.get(key)[0])
        version = fields.pop("schema_version")
        if version != 1:
            raise ValueError(f"schema_version is {version!r}; this qtrade reads 1")
        return fields

    def _put(self, deploy: Deploy, part: str, fields: dict[str, Any]) -> None:
        text = redact(json.dumps({"schema_version": 1, **fields}, sort_keys=True))
        self._objects.put_new(f"{_place(deploy)}.{part}.json", text.encode())


def _months(now: float) -> Iterator[str]:
    """Give the months back to the first, from the next one: another controller's clock may be ahead."""
    at = time.gmtime(now)
    year, month = at.tm_year + at.tm_mon // 12, at.tm_mon % 12 + 1
    while (name := f"{year:04}-{month:02}") >= _FIRST_MONTH:
        yield name
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)


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
        _end(history, deploy, Ending(Outcome.FAILED, state=progress.ending.state, error=said[:1000]), warn)
        raise
    _end(history, deploy, progress.ending, warn)


def _end(history: History, deploy: Deploy, ending: Ending, warn: Callable[[str], None]) -> None:
    try:
        history.end(deploy, replace(ending, at=round(time.time(), 6)))
    except (QtradeError, OSError) as error:
        warn(f"warning: the end of this {deploy.kind} is not in the history: {error}")


def _place(deploy: Deploy) -> str:
    whole, micros = divmod(round(deploy.at * 10**6), 10**6)
    at = time.gmtime(whole)
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', at)}.{micros:06}Z"
    month = max(time.strftime("%Y-%m", at), _FIRST_MONTH)
    of, name = ("hosts", deploy.host) if deploy.host else ("channels", deploy.recipe)
    return key_of("history", month, deploy.environment, of, name, f"{stamp}-{deploy.id}.{deploy.kind}")


def _parse_deploy(fields: dict[str, Any]) -> Deploy:
    by = fields["actor"]
    actor = Actor(by["who"], by["where"], Run(**by["run"]) if by["run"] else None)
    return Deploy(**{**fields, "kind": Kind(fields["kind"]), "actor": actor})


def _parse_ending(fields: dict[str, Any]) -> Ending:
    return Ending(**{**fields, "outcome": Outcome(fields["outcome"])})
