"""Bake a second time, elsewhere and at another time, and compare bytes: what differs is a clock, a chance or a machine that got in.

The second bake has a state directory of its own, so its layers are made on the second bake's layers, with another host name, time zone,
umask and clock; only mmdebstrap, which does not bear the shifted clock, keeps the machine's. What was found equal once is not made a
third time: the key of a step says what its bytes are made of.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bake.differences import Difference, Owners, explain_initramfs, explain_layer
from bake.plan import INITRD, INSTALLER, KERNEL
from qtrade import clock, process
from qtrade.errors import Refused, ToolError
from qtrade.manifest import Image, Recipe
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import LocalStore, Store
from qtrade.store.gc import Rules, collect, plan_collection
from qtrade.toolsroot import open_tools

_FOLDER = "second-bake"
_STORE = "store"
_SHARED = ("roots", "cache", "standins", "locks")
_DAYS_AHEAD = 400
_SHOWN = 20
_TIMEOUT_S = 7200
# Another umask and host name for all that follows, in namespaces of its own; what it says is for people.
_SHELL = 'hostname qtrade-verify && umask 077 && exec "$@" 2>&1'
# The second store keeps the image that was compared last, with its layers for the next time, and nothing else.
_KEPT = Rules(keep=1, grace_s=0)


def verify(settings: Settings, store: Store, recipe: Recipe, image: Image, reporter: Reporter) -> None:
    """Bake the recipe again and compare with `image`. Raises `Refused`, naming layer, file and package of each difference."""
    second = _second_settings(settings)
    with reporter.step("second bake, elsewhere"):
        again = _bake_again(settings, second, recipe, image.version, reporter)
    theirs = LocalStore(second.state_dir / _STORE)
    collect(theirs, _KEPT, plan_collection(theirs, _KEPT))
    if image == again:
        return
    work = settings.work_dir / "verify"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    found = [str(difference) for difference in _compare(settings, (store, theirs), (image, again), work)]
    shutil.rmtree(work)
    shown = found[:_SHOWN] + ([f"… and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])
    raise Refused(
        f"{recipe.name} {image.version} is not reproducible: {len(found)} difference(s) between two bakes",
        details="\n".join(f"  {line}" for line in shown or ["image.json"]),
        resolution="change the role so that its files do not depend on time, chance, machine or place",
    )


def _second_settings(settings: Settings) -> Settings:
    state = settings.state_dir / _FOLDER
    state.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        link = state / name
        if not link.is_symlink() and (settings.state_dir / name).exists():
            link.symlink_to(f"../{name}")
    return replace(settings, state_dir=state, store=state / _STORE, keys=None)


def _compare(
    settings: Settings, stores: tuple[Store, Store], images: tuple[Image, Image], work: Path
) -> Iterator[Difference]:
    """Yield what differs in each blob that two images do not share."""
    tools, owners = open_tools(settings), Owners(settings, stores[0], images[0])
    for name, (mine, theirs) in _blobs_of(images[0], images[1]).items():
        if mine == theirs:
            continue
        if name == KERNEL:
            yield Difference(name, "/", "", "its bytes")
            continue
        blobs = stores[0].open_blob(mine), stores[1].open_blob(theirs)
        explain = explain_initramfs if name in (INITRD, INSTALLER) else explain_layer
        yield from explain(tools, name, blobs, owners, work)


def _blobs_of(first: Image, second: Image) -> dict[str, tuple[str, str]]:
    """Return both images' digests by the name of the blob."""
    layers = {mine.role: (mine.digest, other.digest) for mine, other in zip(first.layers, second.layers, strict=True)}
    return {
        **layers,
        KERNEL: (first.kernel.digest, second.kernel.digest),
        INITRD: (first.initrd.digest, second.initrd.digest),
        INSTALLER: (first.installer.digest, second.installer.digest),
    }


def _bake_again(settings: Settings, second: Settings, recipe: Recipe, version: str, reporter: Reporter) -> Image:
    shutil.rmtree(second.state_dir / _STORE / "versions" / recipe.name, ignore_errors=True)
    command = [sys.executable, "-m", "qtrade.cli", "bake", "--recipe", recipe.name, "--version", version]
    env = {
        "QTRADE_PROJECT": str(settings.project),
        "QTRADE_STATE_DIR": str(second.state_dir),
        "QTRADE_STORE": str(second.store),
        "TZ": "Pacific/Kiritimati",
        clock.VARIABLE: str(_DAYS_AHEAD),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    argv = [*process.DIES_WITH_US, "sh", "-c", _SHELL, "sh", *command]
    try:
        process.run(argv, env=env, timeout_s=_TIMEOUT_S, on_line=lambda line: reporter.say(f"second bake: {line}"))
    except ToolError as error:
        mend = "mend what it says; what fails there alone depends on clock, time zone, host name, place or umask"
        raise process.explain(error, "the second bake", mend=mend, longer="bake without --verify first") from error
    published = LocalStore(second.state_dir / _STORE).read(recipe.name, version)
    return Image.model_validate_json(published.image_text)
