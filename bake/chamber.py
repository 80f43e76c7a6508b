"""A private place to work on a root: own mount and process namespaces that die with the bake, whatever kills it.

The parent part (`run_in_chamber`) starts `python -m bake.chamber SPEC` under `setpriv --pdeathsig` and `unshare --kill-child`: when the
bake dies, the kernel kills the chamber, and its mounts vanish with its namespace. Nothing needs unmounting.
"""

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qtrade import process
from qtrade.toolsroot import PATH_RULES

# One chroot at a time sees these; the layer must not.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Files that are there while commands run: no service starts, dpkg need not flush, and nobody reads manuals on a host.
_BAKE_ONLY = {
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/dpkg/dpkg.cfg.d/qtrade-bake": "\n".join(("force-unsafe-io", *(f"path-{rule}" for rule in PATH_RULES), "")),
}
KNOWN_VAR = "var.known"
# Flags of mount(2).
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096


@dataclass(frozen=True)
class Command:
    """A program with its arguments that runs in a chamber, without a network unless it `has_network`."""

    argv: tuple[str, ...]
    has_network: bool = False


@dataclass(frozen=True)
class Chamber:
    """An overlay of EROFS `layers` (lowest first) with `upper` on top, mounted on `root` while `commands` run.

    Commands run one after the other, until one fails, outside the root: they chroot into it if they want. `binds` maps host paths
    to paths in the root.
    """

    folder: Path
    layers: tuple[Path, ...]
    commands: tuple[Command, ...]
    binds: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where the stacked root is while the chamber lives."""
        return self.folder / "root"

    @property
    def top(self) -> Path:
        """Where the highest layer is mounted by itself, read-only, while the chamber lives."""
        return self.folder / "lower" / f"{len(self.layers) - 1:02}"

    @property
    def upper(self) -> Path:
        """What the commands changed; stays when the chamber is gone."""
        return self.folder / "upper"


def run_in_chamber(
    chamber: Chamber, *, env: dict[str, str], timeout_s: float, on_line: Callable[[str], None] | None = None
) -> process.Completed:
    """Run the chamber's commands. Raises `ToolError` when one fails, with the end of its output."""
    argv, inside_env = _prepare(chamber)
    done = process.run(argv, env={**env, **inside_env}, timeout_s=timeout_s, on_line=on_line, check=False)
    if done.returncode != 0:
        last = chamber.commands[-1].argv
        raise process.failed(process.Completed(last, done.returncode, done.stdout, done.stdout + done.stderr))
    return done


def attach_to_chamber(chamber: Chamber, *, env: dict[str, str]) -> int:
    """Run the chamber's commands on the terminal of this process; return the exit code of the last one that ran."""
    argv, inside_env = _prepare(chamber)
    return process.attach(argv, env={**env, **inside_env})


def _prepare(chamber: Chamber) -> tuple[list[str], dict[str, str]]:
    for name in ("root", "upper", "work", "lower"):
        (chamber.folder / name).mkdir(parents=True, exist_ok=True)
    spec = chamber.folder / "chamber.json"
    spec.write_text(json.dumps(asdict(chamber), default=str))
    argv = [*process.DIES_WITH_US, sys.executable, "-P", "-m", "bake.chamber", str(spec)]
    here = str(Path(__file__).resolve().parent.parent)
    return argv, {"PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}


def _inside(spec_path: str) -> int:
    fields = json.loads(Path(spec_path).read_text())
    os.environ.pop("TMPDIR", None)  # a folder of the machine, which the root does not have
    chamber = Chamber(
        folder=Path(fields["folder"]),
        layers=tuple(Path(layer) for layer in fields["layers"]),
        commands=tuple(Command(**{**item, "argv": tuple(item["argv"])}) for item in fields["commands"]),
        binds=fields["binds"],
    )
    lowers = _mount_root(chamber)
    _mount_inside(chamber)
    known = _fill_var(chamber.root)
    for name, text in _BAKE_ONLY.items():
        (chamber.root / name).write_text(text)
        (chamber.root / name).chmod(0o755)
    code = 0
    for command in chamber.commands:
        offline = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
        code = _call(command.argv if command.has_network else (*offline, *command.argv))
        if code != 0:
            break
    for name in _BAKE_ONLY:
        (chamber.root / name).unlink()
    if code == 0:
        _prune(chamber.upper, lowers)
        (chamber.folder / KNOWN_VAR).write_text("".join(f"{path}\n" for path in known))
    return code


def _mount_root(chamber: Chamber) -> list[Path]:
    lowers: list[Path] = []
    for number, layer in enumerate(chamber.layers):
        lower = chamber.folder / "lower" / f"{number:02}"
        lower.mkdir(exist_ok=True)
        _mount("-t", "erofs", "-o", "ro", str(layer), str(lower))
        lowers.insert(0, lower)
    # Paths from within the folder: newer mount(8) hands each option to fsconfig(2), which takes 255 characters.
    stack, upper, work = (
        ":".join(str(path.relative_to(chamber.folder)) for path in paths)
        for paths in (lowers, [chamber.upper], [chamber.folder / "work"])
    )
    # Else renames of folders become redirect xattrs, which a layer must not carry.
    options = f"lowerdir={stack},upperdir={upper},workdir={work},metacopy=off,redirect_dir=off,index=off"
    _mount("-t", "overlay", "-o", options, "overlay", str(chamber.root), cwd=chamber.folder)
    return lowers


def _fill_var(root: Path) -> list[str]:
    """Make the folders of /var that a boot makes, as the layers ship none; return them, relative to /var."""
    argv = ["chroot", str(root), "systemd-tmpfiles", "--create", "--prefix=/var"]
    process.run(argv, check=False, timeout_s=60)  # lines for users or attributes of a running system may fail
    for name in ("tmp", "cache", "log", "lib"):
        (root / "var" / name).mkdir(parents=True, exist_ok=True)
    return [str(Path(folder).relative_to(root / "var")) for folder, _, _ in os.walk(root / "var")]


def _mount_inside(chamber: Chamber) -> None:
    root = chamber.root
    _mount_plain("proc", root / "proc", kind="proc")
    # Most settings of the kernel are the machine's, whatever the namespaces.
    settings = root / "proc/sys"
    _mount_plain(settings, settings, flags=_MS_BIND)
    _mount_plain("none", settings, flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    for folder in ("run", "tmp", "dev"):
        _mount_plain("tmpfs", root / folder, kind="tmpfs", options=f"mode={'1777' if folder == 'tmp' else '755'}")
    for device in _DEVICES:
        (root / "dev" / device).touch()
        _mount_plain(f"/dev/{device}", root / "dev" / device, flags=_MS_BIND)
    (root / "dev/fd").symlink_to("/proc/self/fd")
    (root / "dev/shm").mkdir(mode=0o1777)
    resolver = root / "run/systemd/resolve"
    resolver.mkdir(parents=True)
    shutil.copyfile("/etc/resolv.conf", resolver / "stub-resolv.conf")
    for source, inside in chamber.binds.items():
        target = root / inside.lstrip("/")
        if Path(source).is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount_plain(source, target, flags=_MS_BIND)


def _prune(upper: Path, lowers: list[Path]) -> None:
    """Remove folders of `upper` that are empty and look like the ones below: passing through is no change."""
    for folder, _, _ in os.walk(upper, topdown=False):
        path = Path(folder)
        if path == upper or any(path.iterdir()):
            continue
        inside = path.relative_to(upper)
        below = next((lower / inside for lower in lowers if (lower / inside).is_dir()), None)
        if below is None:
            continue
        mine, theirs = path.stat(), below.stat()
        opaque = "trusted.overlay.opaque" in os.listxattr(path)
        if not opaque and (mine.st_mode, mine.st_uid, mine.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid):
            path.rmdir()


def _mount(*args: str, cwd: Path | None = None) -> None:
    """Mount by mount(8): it knows what this kernel needs for a file with a filesystem."""
    process.run(["mount", *args], cwd=cwd, timeout_s=60)


def _mount_plain(source: Path | str, target: Path, *, kind: str = "none", flags: int = 0, options: str = "") -> None:
    """Mount by mount(2): a dozen programs would take a third of the time that a chamber takes to stand. Raises `OSError`."""
    call = ctypes.CDLL(None, use_errno=True).mount
    if call(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {source}: {os.strerror(number)}", str(target))


def _call(argv: tuple[str, ...]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp(argv[0], argv)  # noqa: S606 - output must stream through; the outer process.run captures it
        except OSError as error:
            sys.stderr.write(f"{argv[0]}: {error}\n")
            os._exit(127)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(_inside(sys.argv[1]))
