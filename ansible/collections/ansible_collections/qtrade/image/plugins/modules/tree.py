"""Target side of qtrade.image.tree: write what differs, and say what was written.

A program of the standard library, which the action plugin sends to the target's Python with its arguments: packed by Ansible as a module
of its own kind, it would take three times as long to start (measured: 0.6 s), in each layer.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import grp
import hashlib
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DOCUMENTATION = r"""
module: tree
short_description: Lay a role's files into the root of a layer
description:
  - Writes the role's C(files/), rendered C(templates/) (without C(.j2)) and C(config/inputs.yml) (as
    C(/usr/lib/qtrade/inputs.d/<role>.json)); both folders mirror the target's root.
  - Paths are relative to the root. Everything belongs to root; files are 0644, or 0755 when they are
    executable in the checkout.
  - In check mode nothing is written, with C(--diff) the differences are shown, and neither root nor components are needed.
  - What the login may not read, and components, which are there only while a layer is baked, are then named in C(unchecked)
    and in a warning.
  - Without check mode it works in a chroot only.
options:
  attributes:
    description: Owner, group and mode of the paths that match a pattern (shell style, `*` also matches `/`).
    type: dict
    default: {}
  directories:
    description: Directories that have to exist.
    type: list
    elements: str
    default: []
  links:
    description: Symbolic links, path to target; what stands in the way is replaced.
    type: dict
    default: {}
  absent:
    description: Paths, or patterns of paths, that have to be absent.
    type: list
    elements: str
    default: []
  without_dangling:
    description: Directories in which links that lead nowhere are removed, after C(absent).
    type: list
    elements: str
    default: []
  copies:
    description: Trees or files already on the target to copy, path to source; byte code and README.md are left out.
    type: dict
    default: {}
  validate:
    description: Command that has to accept a file (C(%s)) before it is written, by pattern.
    type: dict
    default: {}
  files:
    description: Filled in by the action plugin.
    type: list
    elements: dict
    default: []
author: [qtrade]
"""

EXAMPLES = r"""
- name: Lay the files of the role
  qtrade.image.tree:
    links: {etc/fstab: /run/qtrade/state/config/current/fstab}
    attributes: {etc/sudoers.d/*: {mode: "0440"}}
    validate: {etc/sudoers.d/*: /usr/sbin/visudo -cf %s}
"""

RETURN = r"""
written:
  description: Paths that were changed, or in check mode would be.
  returned: always
  type: list
unchecked:
  description: Paths that check mode could not compare, each with the reason.
  returned: always
  type: list
"""

ROOT = Path("/")
LEFT_OUT = {"__pycache__", "README.md"}
SHOWN_BYTES = 100_000
# A file's content, what else is there in words, or None for nothing.
State = bytes | str | None


class Tree:
    """The root being changed, and the paths that were. In check mode: the paths that would be, and those that nobody could look at."""

    def __init__(
        self,
        attributes: dict[str, dict[str, str]],
        validate: dict[str, str],
        *,
        check_mode: bool = False,
        shows_diff: bool = False,
    ) -> None:
        self.attributes = attributes
        self.validate = validate
        self.check_mode = check_mode
        self.shows_diff = shows_diff
        self.written: list[str] = []
        self.unchecked: list[str] = []
        self.diff: list[dict[str, str]] = []

    def attempt(self, path: str, step: Callable[[], None]) -> None:
        """Take a step. In check mode, which needs no root, what may not be read is noted instead of ending everything."""
        try:
            step()
        except PermissionError:
            if not self.check_mode:
                raise
            self.unchecked.append(f"{path}: may not be read")

    def write_file(self, path: str, content: bytes, mode: str) -> None:
        target = ROOT / path
        self.make_directory(str(Path(path).parent), is_wanted=False)
        if self.check_mode and not target.is_symlink():
            self.set_attributes(path, mode)  # before the content, which the login may not be allowed to read
        found = read_state(target)
        if found != content:
            self._note(path, found, content)
            if not self.check_mode:
                self._replace(target, content, path)
        if not self.check_mode:
            self.set_attributes(path, mode)

    def _note(self, path: str, before: State, after: State) -> None:
        if path not in self.written:
            self.written.append(path)
        if self.shows_diff:
            header = str(ROOT / path)
            texts = {"before": show(before), "after": show(after)}
            self.diff.append({"before_header": header, "after_header": header, **texts})

    def _replace(self, target: Path, content: bytes, path: str) -> None:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".qtrade-")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            for pattern, command in self.validate.items():
                if fnmatch.fnmatchcase(path, pattern):
                    subprocess.run(shlex.split(command % name), check=True, capture_output=True, text=True)
            Path(name).replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()

    def make_directory(self, path: str, *, is_wanted: bool = True) -> None:
        """Make a directory and its parents; only a wanted one gets its mode set when it is there already."""
        target = ROOT / path
        if not target.is_dir():
            self.make_directory(str(Path(path).parent), is_wanted=False)
            self._note(path, read_state(target), "directory\n")
            if not self.check_mode:
                target.mkdir(mode=0o755)
            is_wanted = True
        if is_wanted:
            self.set_attributes(path, "0755")

    def make_link(self, path: str, destination: str) -> None:
        target = ROOT / path
        self.make_directory(str(Path(path).parent), is_wanted=False)
        found = read_state(target)
        if found == f"link to {destination}\n":
            return
        self._note(path, found, f"link to {destination}\n")
        if not self.check_mode:
            target.unlink(missing_ok=True)
            target.symlink_to(destination)

    def remove(self, pattern: str) -> None:
        for target in sorted(ROOT.glob(pattern)):
            is_tree = target.is_dir() and not target.is_symlink()
            self._note(str(target.relative_to(ROOT)), "present\n", None)  # its content may be a key
            if not self.check_mode:
                shutil.rmtree(target) if is_tree else target.unlink()

    def remove_dangling(self, folder: str) -> None:
        for link in sorted((ROOT / folder).iterdir()):
            if link.is_symlink() and not link.exists():
                self.remove(str(link.relative_to(ROOT)))

    def copy(self, path: str, source: Path) -> None:
        if source.is_symlink():
            self.make_link(path, str(source.readlink()))
        elif source.is_file():
            self.write_file(path, source.read_bytes(), "0755" if source.stat().st_mode & 0o100 else "0644")
        elif source.is_dir():
            self.make_directory(path)
            for child in sorted(source.iterdir()):
                if child.name not in LEFT_OUT:
                    self.copy(f"{path}/{child.name}", child)
        elif self.check_mode:
            self.unchecked.append(f"{path}: {source} is there only while the layer is baked")
        else:
            raise FileNotFoundError(f"component {source} is not there")

    def set_attributes(self, path: str, mode: str) -> None:
        target = ROOT / path
        if not target.exists():
            return
        owner, group = "root", "root"
        for pattern, wanted in self.attributes.items():
            if fnmatch.fnmatchcase(path, pattern):
                owner, group, mode = wanted.get("owner", owner), wanted.get("group", group), wanted.get("mode", mode)
        uid, gid = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
        found = target.stat()
        before, after = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)), (uid, gid, int(mode, 8))
        if before == after:
            return
        self._note(path, describe(*before), describe(*after))
        if not self.check_mode:
            os.chown(target, uid, gid)
            target.chmod(int(mode, 8))


def read_state(target: Path) -> State:
    """Return what is at a path."""
    try:
        kind = stat.S_IFMT(target.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if kind == stat.S_IFLNK:
        return f"link to {target.readlink()}\n"
    if kind == stat.S_IFREG:
        return target.read_bytes()
    return "directory\n" if kind == stat.S_IFDIR else "special file\n"


def show(state: State) -> str:
    """Return a state as a diff shows it: text as it is, other content by its digest."""
    if not isinstance(state, bytes):
        return state or ""
    try:
        text = state.decode() if len(state) <= SHOWN_BYTES and b"\0" not in state else ""
    except UnicodeDecodeError:
        text = ""
    return text or f"{len(state)} bytes, sha256 {hashlib.sha256(state).hexdigest()}\n"


def describe(uid: int, gid: int, mode: int) -> str:
    """Return owner, group and mode as a diff shows them."""
    return f"owner {uid}, group {gid}, mode {mode:04o}\n"


def lay(wanted: dict[str, Any], tree: Tree) -> None:
    """Bring the root into the wanted state."""
    for path in wanted["absent"]:
        tree.attempt(path, partial(tree.remove, path))
    for path in wanted["without_dangling"]:
        tree.attempt(path, partial(tree.remove_dangling, path))
    for path in wanted["directories"]:
        tree.attempt(path, partial(tree.make_directory, path))
    for file in wanted["files"]:
        path, content = file["path"], base64.b64decode(file["content"])
        tree.attempt(path, partial(tree.write_file, path, content, file["mode"]))
    for path, source in wanted["copies"].items():
        tree.attempt(path, partial(tree.copy, path, Path(source)))
    for path, destination in wanted["links"].items():
        tree.attempt(path, partial(tree.make_link, path, destination))


def run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the task, as Ansible takes it."""
    tree = Tree(
        wanted["attributes"], wanted["validate"], check_mode=wanted["check_mode"], shows_diff=wanted["shows_diff"]
    )
    try:
        lay(wanted, tree)
    except subprocess.CalledProcessError as error:
        return {"failed": True, "msg": f"{' '.join(error.cmd)} refused the file: {error.stderr or error.stdout}"}
    except (OSError, KeyError) as error:
        return {"failed": True, "msg": f"{type(error).__name__}: {error}"}
    result = {"changed": bool(tree.written), "written": tree.written, "unchecked": tree.unchecked, "diff": tree.diff}
    if tree.unchecked:
        result["warnings"] = [f"{len(tree.unchecked)} path(s) not compared: {'; '.join(tree.unchecked)}"]
    return result


def main(arguments: str) -> None:
    """Print the result of the task with these arguments; both are JSON."""
    sys.stdout.write(json.dumps(run(json.loads(arguments))) + "\n")
