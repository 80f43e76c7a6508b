"""qtrade itself, as whole processes, in a state directory of its own."""

import json
import os
import shutil
import subprocess
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
        self._bench, self._folder, self._state = bench, folder, folder / "state"
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
        kept = self._kept()
        self._begin(self._state)
        if case is Case.DEBS:
            (self._state / "locks").symlink_to(kept / "locks")
            shutil.copytree(kept / "cache/blobs", self._state / "cache/blobs", copy_function=os.link)

    def _begin(self, state: Path) -> None:
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        for name in ("roots", "standins"):
            (state / name).symlink_to(self._bench.settings.state_dir / name)

    def _kept(self) -> Path:
        """Return a state directory with a lock and the files that it names, made at first use, as is the tools root of that lock."""
        kept = self._folder / "kept"
        if not (kept / "done").exists():
            self._begin(kept)
            env = {**os.environ, "QTRADE_STATE_DIR": str(kept), "QTRADE_PROJECT": str(self._bench.project)}
            for command in (("lock",), ("lock", "--fetch"), ("tools",)):
                argv = (beside_python("qtrade"), *command, "--recipe", self._bench.recipe.name)
                subprocess.run(argv, env=env, check=True, capture_output=True, timeout=600)
            (kept / "done").touch()
        return kept
