"""Target side of qtrade.image.tree: write what differs, and say what was written."""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: tree
short_description: Lay a role's files into the root of a layer
description:
  - Writes the role's C(files/), rendered C(templates/) (without C(.j2)) and C(config/inputs.yml) (as
    C(/usr/lib/qtrade/inputs.d/<role>.json)); both folders mirror the target's root.
  - Paths are relative to the root. Everything belongs to root; files are 0644, or 0755 when they are
    executable in the checkout.
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
  description: Paths that were changed.
  returned: always
  type: list
"""

ROOT = Path("/")
LEFT_OUT = {"__pycache__", "README.md"}


class Tree:
    """The root being changed, and the paths that were."""

    def __init__(self, attributes: dict[str, dict[str, str]], validate: dict[str, str], *, check_mode: bool) -> None:
        self.attributes = attributes
        self.validate = validate
        self.check_mode = check_mode
        self.written: list[str] = []

    def write_file(self, path: str, content: bytes, mode: str) -> None:
        target = ROOT / path
        self.make_directory(str(Path(path).parent), is_wanted=False)
        if target.is_symlink() or not target.is_file() or target.read_bytes() != content:
            self.written.append(path)
            if not self.check_mode:
                self._replace(target, content, path)
        self.set_attributes(path, mode)

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
            self.written.append(path)
            if not self.check_mode:
                target.mkdir(mode=0o755)
            is_wanted = True
        if is_wanted:
            self.set_attributes(path, "0755")

    def make_link(self, path: str, destination: str) -> None:
        target = ROOT / path
        self.make_directory(str(Path(path).parent), is_wanted=False)
        if target.is_symlink() and str(target.readlink()) == destination:
            return
        self.written.append(path)
        if not self.check_mode:
            target.unlink(missing_ok=True)
            target.symlink_to(destination)

    def remove(self, pattern: str) -> None:
        for target in sorted(ROOT.glob(pattern)):
            self.written.append(str(target.relative_to(ROOT)))
            if not self.check_mode:
                shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()

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
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, int(mode, 8)):
            return
        if path not in self.written:
            self.written.append(path)
        if not self.check_mode:
            os.chown(target, uid, gid)
            target.chmod(int(mode, 8))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "directories": {"type": "list", "elements": "str", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "without_dangling": {"type": "list", "elements": "str", "default": []},
            "links": {"type": "dict", "default": {}},
            "copies": {"type": "dict", "default": {}},
            "attributes": {"type": "dict", "default": {}},
            "validate": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    tree = Tree(wanted["attributes"], wanted["validate"], check_mode=module.check_mode)
    try:
        for path in wanted["absent"]:
            tree.remove(path)
        for path in wanted["without_dangling"]:
            tree.remove_dangling(path)
        for path in wanted["directories"]:
            tree.make_directory(path)
        for file in wanted["files"]:
            tree.write_file(file["path"], base64.b64decode(file["content"]), file["mode"])
        for path, source in wanted["copies"].items():
            tree.copy(path, Path(source))
        for path, destination in wanted["links"].items():
            tree.make_link(path, destination)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{' '.join(error.cmd)} refused the file: {error.stderr or error.stdout}")
    except (OSError, KeyError) as error:
        module.fail_json(msg=f"{type(error).__name__}: {error}")
    module.exit_json(changed=bool(tree.written), written=tree.written)


if __name__ == "__main__":
    main()
