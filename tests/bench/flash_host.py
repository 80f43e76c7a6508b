"""Flashes of a lab host for `tests.bench.flash`: a blank one from power-on to healthy, then one small layer more, in place."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bake.image import sign
from bake.pack import pack_layer
from flash.journal import Journal, latest
from flash.states import State
from qtrade.manifest import Image, ImageLayer
from qtrade.manifest.image import image_id
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.toolsroot import open_tools
from qtrade.trust.keyring import load_keyring
from tests.bench.flash_journal import Span, between, read_spans, total_s

HOST, VERSION = "bench-1", "0.0.0-bench"
_QTRADE = Path(sys.executable).parent / "qtrade"
_LAYER_BYTES = 8 << 20
_One = TypeVar("_One")


@dataclass(frozen=True)
class Reimage:
    """A blank host from power-on to healthy."""

    door: str
    spans: tuple[Span, ...]
    bytes_fetched: int


@dataclass(frozen=True)
class InPlace:
    """A small layer more on a host that runs: the whole command, its states, and the transfer in it."""

    whole_s: float
    spans: tuple[Span, ...]
    bytes_fetched: int
    transfer_s: float


def measure_host(settings: Settings, rounds: int, scratch: Path) -> tuple[Reimage, InPlace]:
    """Flash a blank lab host and then one small layer more, so many times; return of each kind the flash in the middle."""
    base = bake(settings)
    flashes = [_measure_once(settings, base, scratch / f"round-{number}") for number in range(rounds)]
    reimages, in_place = tuple(one for one, _ in flashes), tuple(one for _, one in flashes)
    return _middle(reimages, lambda one: total_s(one.spans)), _middle(in_place, lambda one: one.whole_s)


def bake(settings: Settings) -> Image:
    """Bake what is flashed."""
    _qtrade("bake", "--version", VERSION)
    return Image.model_validate_json(LocalStore(settings.store).read("lab", VERSION).image_text)


def _measure_once(settings: Settings, base: Image, folder: Path) -> tuple[Reimage, InPlace]:
    folder.mkdir()
    version = f"{base.version}.{os.urandom(6).hex()}"
    _publish_changed(settings, base, version, folder)
    _qtrade("lab", "down", "--name", HOST, "--wipe", check=False)
    _qtrade("lab", "up", "--name", HOST, "--owner-pid", str(os.getpid()))
    try:
        journal, _ = _flash(settings, base.version)
        reimage = Reimage(str(journal.evidence("door")), _from_power_on(journal), journal.evidence("bytes_fetched"))
        journal, whole_s = _flash(settings, version)
    finally:
        _qtrade("lab", "down", "--name", HOST, "--wipe", check=False)
    door = journal.evidence("door")
    if door != "in_place":
        raise SystemExit(f"bench: the second flash went through {door}, not in place")
    transfer = journal.evidence("transfer")["fetch_seconds"]
    spans = tuple(read_spans(journal))
    return reimage, InPlace(whole_s, spans, journal.evidence("bytes_fetched"), transfer)


def _from_power_on(journal: Journal) -> tuple[Span, ...]:
    # A blank host is switched on at the begin of STAGING.
    return tuple(between(read_spans(journal), State.STAGING, State.HEALTHY))


def _flash(settings: Settings, version: str) -> tuple[Journal, float]:
    """Flash; return the journal of this very flash, and the seconds of the command."""
    begin, start = time.time(), time.monotonic()
    _qtrade("flash", "--host", HOST, "--version", version, "--yes")
    seconds, journal = time.monotonic() - start, latest(settings.state_dir / "flashes" / HOST)
    if journal is None or journal.entries[0].at < begin or journal.state is not State.COMMITTED:
        raise SystemExit(f"bench: {HOST} has no journal of the flash of {version} that ended COMMITTED")
    return journal, seconds


def _publish_changed(settings: Settings, base: Image, version: str, folder: Path) -> None:
    """Publish `base` with a layer of its own on top that no host has."""
    store, tree = LocalStore(settings.store), folder / "tree"
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/bench").write_bytes(random.SystemRandom().randbytes(_LAYER_BYTES))
    packed = pack_layer(open_tools(settings), tree, folder / "layer.erofs", name="bench", epoch=base.epoch)
    store.add_blob(packed.path, packed.digest)
    facts = {"digest": packed.digest, "size": packed.size, "verity": packed.verity}
    top = ImageLayer.model_validate({"role": "bench", "key": packed.digest, "needs": ("base",), **facts})
    draft = base.model_copy(update={"version": version, "layers": (*base.layers, top)})
    made = draft.model_copy(update={"id": image_id(draft.list_text())})
    store.publish(made, sign(made, load_keyring(settings).signer("build")))


def _middle(ones: tuple[_One, ...], key: Callable[[_One], float]) -> _One:
    return sorted(ones, key=key)[len(ones) // 2]


def _qtrade(*args: str, check: bool = True) -> None:
    done = subprocess.run([_QTRADE, *args], stdout=subprocess.DEVNULL, check=False)
    if check and done.returncode:
        raise SystemExit(f"bench: qtrade {' '.join(args)}: {done.returncode}")
