"""qtrade itself, as whole processes, in a state directory of its own."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qtrade import __version__
from qtrade.process import beside_python
from tests.bench.cases import CHANGED, Bench, Case, Job
from tests.bench.content import change_role


class Qtrade:
    """All cases differ: that is the point of it. The tools root counts as installed, as the other tools' programs do."""

    name = "qtrade"
    note = "Layers by content: an unchanged one is not made again. Also makes the installer, runs specs and seal, writes SBOMs."
    same_as: Mapping[Case, Case] = MappingProxyType({})
    left_out: Mapping[Case, str] = MappingProxyType({})
    is_emulated = False

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._state = bench, folder / "state"
        self._baked = 0

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return None

    def version(self) -> str:
        """Return its version."""
        return f"qtrade {__version__}"

    def prepare(self, case: Case, number: int) -> Job:
        """Empty the state directory for a cold bake, or change a role; the bench has baked before the other cases."""
        if case in (Case.COLD, Case.DEBS):
            self._renew(case)
        if case in CHANGED:
            change_role(self._bench.project, CHANGED[case], number)
        if case is not Case.NOTHING:
            self._baked += 1
        version = f"0.{self._baked}.0"
        env = {"QTRADE_STATE_DIR": str(self._state), "QTRADE_PROJECT": str(self._bench.project)}
        argv = (beside_python("qtrade"), "bake", "--version", version, "--json")
        return Job(argv, lambda: self._blobs(version), env)

    def _blobs(self, version: str) -> tuple[Path, ...]:
        """Return the blobs that a host gets: layers, kernel and initrd."""
        store = self._state / "store"
        document = store / "versions" / self._bench.recipe.name / f"{version}.json"
        if not document.is_file():
            return (document,)
        fields = json.loads(json.loads(document.read_text())["image"])
        parts = [*fields["layers"], fields["kernel"], fields["initrd"]]
        return tuple(store / "blobs" / part["digest"] for part in parts)

    def _renew(self, case: Case) -> None:
        """Begin with an empty state directory; with .debs cached, with the lock and the files that it names."""
        shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir(parents=True)
        shared = ("roots", "standins", *(("locks",) if case is Case.DEBS else ()))
        for name in shared:
            (self._state / name).symlink_to(self._bench.settings.state_dir / name)
        if case is Case.DEBS:
            theirs = self._bench.settings.cache_dir / "blobs"
            shutil.copytree(theirs, self._state / "cache/blobs", copy_function=os.link)
