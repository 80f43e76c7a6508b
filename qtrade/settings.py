"""Where things are: set by environment variables, with defaults that need none."""

import os
from dataclasses import dataclass
from pathlib import Path

from qtrade.errors import BadInput

_MARKS = ("manifests", "ansible", "packer")


@dataclass(frozen=True)
class Settings:
    """Folders that qtrade works with.

    `project` holds manifests/, ansible/ and packer/ (QTRADE_PROJECT; else the working directory or a parent of it, else
    the checkout that this module is in). `state_dir` holds everything that qtrade writes (QTRADE_STATE_DIR; else
    .state in the project). `store` holds published images (QTRADE_STORE; else state_dir/store).
    """

    project: Path
    state_dir: Path
    store: Path

    @property
    def tools_dir(self) -> Path:
        """Root with the programs whose bytes must not depend on the machine."""
        return self.state_dir / "roots" / "tools"

    @property
    def cache_dir(self) -> Path:
        """Downloads, addressed by content or guarded by a digest."""
        return self.state_dir / "cache"

    @property
    def work_dir(self) -> Path:
        """Work in progress; what is found here at the start of a command is stale."""
        return self.state_dir / "work"

    @property
    def keys_dir(self) -> Path:
        """Signing keys of this state directory (the lab's); mode 700."""
        return self.state_dir / "keys"


def load_settings() -> Settings:
    """Read the settings from the environment. Raises `BadInput` when the project folder cannot be found."""
    project = _find_project()
    state_dir = Path(os.environ.get("QTRADE_STATE_DIR") or project / ".state").absolute()
    store = Path(os.environ.get("QTRADE_STORE") or state_dir / "store").absolute()
    return Settings(project=project, state_dir=state_dir, store=store)


def _find_project() -> Path:
    named = os.environ.get("QTRADE_PROJECT")
    if named:
        candidates = [Path(named)]
    else:
        here = Path.cwd()
        candidates = [here, *here.parents, Path(__file__).resolve().parent.parent]
    for folder in candidates:
        if all((folder / mark).is_dir() for mark in _MARKS):
            return folder.absolute()
    where = named or str(Path.cwd())
    raise BadInput(
        f"{where} is not a qtrade project",
        details=f"a project has the folders {', '.join(_MARKS)}",
        resolution="change into the project, or set QTRADE_PROJECT to it",
    )
