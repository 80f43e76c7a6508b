"""Boots the installer from a running system, without its firmware: kexec. The job goes along in memory, so no network carries it."""

import os
import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple

from . import dsse, programs
from .errors import AgentError
from .imagelist import Blob, check_cmdline, is_digest
from .report import Reporter, tell_fetch

# Where the installer finds the job that `pack_job` gave it.
JOB_PATH = "qtrade/job.json"
_WORK = Path("/run/qtrade-kexec")
# x86-64: kexec_file_load(kernel_fd, initrd_fd, cmdline_len, cmdline, flags).
_SYS_KEXEC_FILE_LOAD = 320
_RB_KEXEC = 0x45584543
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_CPIO_FILE, _CPIO_FOLDER = 0o100400, 0o040700


class Boot(NamedTuple):
    """The installer that is to be started, and the envelope of the job that it takes along."""

    kernel: Blob
    initrd: Blob
    cmdline: str
    job: Mapping[str, Any]


def parse_boot(fields: Mapping[str, Any]) -> Boot:
    """Parse `boot` of a job of kind kexec. Raises `AgentError`."""
    blobs = []
    for name in ("kernel", "initrd"):
        one = fields.get(name)
        if (
            not isinstance(one, dict)
            or not is_digest(str(one.get("sha256")))
            or not isinstance(one.get("size_bytes"), int)
        ):
            raise AgentError("job-invalid", f"boot.{name} gives no sha256 and size_bytes")
        blobs.append(Blob(one["sha256"], one["size_bytes"], "", f"the installer's {name}"))
    cmdline, job = fields.get("cmdline"), fields.get("job")
    if not isinstance(cmdline, str) or not isinstance(job, dict):
        raise AgentError("job-invalid", "boot gives no cmdline and job")
    return Boot(blobs[0], blobs[1], check_cmdline(cmdline), job)


def refusal(root: Path = Path("/")) -> str:
    """Return why this system cannot boot another kernel by itself, empty when it can."""
    if os.uname().machine != "x86_64":
        return f"the machine is {os.uname().machine}, not x86_64"
    lockdown = _text(root / "sys/kernel/security/lockdown")
    if "[" in lockdown and "[none]" not in lockdown:
        return f"the kernel is locked down ({lockdown})"
    secure = root / _SECURE_BOOT
    if secure.exists() and secure.read_bytes()[-1:] == b"\1":
        return "Secure Boot is on"
    if _text(root / "proc/sys/kernel/kexec_load_disabled") != "0":
        return "kexec is disabled (kernel.kexec_load_disabled), or the kernel has none"
    return ""


def load(fields: Mapping[str, Any], source: str, reporter: Reporter, work: Path = _WORK) -> Dict[str, Any]:
    """Get the installer's kernel and initrd, check them, and load them with the job. Raises `AgentError`; nothing has happened then."""
    boot = parse_boot(fields)
    reason = refusal()
    if reason:
        raise AgentError(
            "kexec-refused", f"this host cannot start the installer by kexec: {reason}", "use another door"
        )
    import shutil  # noqa: PLC0415 - it brings three compressors along

    shutil.rmtree(str(work), ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        blobs = (boot.kernel, boot.initrd)
        from .fetch import Fetcher  # noqa: PLC0415 - what fetches nothing starts without HTTP

        fetcher = Fetcher(source, work, progress=tell_fetch(reporter, blobs))
        fetcher.fetch_all(blobs)
        initrd = work / boot.initrd.path
        with initrd.open("ab") as file:
            # The kernel looks for the next archive at the next multiple of four.
            file.write(b"\0" * (-file.tell() % 4) + pack_job(dsse.canonical(boot.job)))
        _load_file(work / boot.kernel.path, initrd, boot.cmdline)
    finally:
        shutil.rmtree(str(work), ignore_errors=True)
    if _text(Path("/sys/kernel/kexec_loaded")) != "1":
        raise AgentError("kexec-failed", "the kernel took the installer but does not have it", "use another door")
    return {"bytes_fetched": fetcher.fetched.bytes_fetched, "loaded": boot.kernel.sha256}


def pack_job(envelope: bytes) -> bytes:
    """Return an archive (cpio, "newc") that holds the job and nothing else."""
    return pack_files({JOB_PATH: envelope})


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return an archive (cpio, "newc") of files for root only, each in one folder."""
    folders = sorted({name.rpartition("/")[0] for name in files})
    parts = [_cpio_entry(folder, _CPIO_FOLDER, b"") for folder in folders]
    parts += [_cpio_entry(name, _CPIO_FILE, data) for name, data in files.items()]
    return b"".join([*parts, _cpio_entry("TRAILER!!!", 0, b"")])


def start_cleanly() -> None:
    """Let systemd stop everything and then start what was loaded, soon: the answer must get out first. Raises `AgentError`."""
    programs.run("systemd-run", "--on-active=1", "--collect", "--quiet", "systemctl", "kexec")


def start_now(delay_s: int = 2) -> None:
    """Start what was loaded after a moment, from a process of its own, on a system that is not ours: all disks are made read-only first."""
    if os.fork():
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    time.sleep(delay_s)
    os.sync()
    for key in ("s", "u"):
        Path("/proc/sysrq-trigger").write_text(key)
        time.sleep(1)
    libc = _libc()
    libc.reboot(_RB_KEXEC)
    os._exit(1)


def _load_file(kernel: Path, initrd: Path, cmdline: str) -> None:
    import ctypes  # noqa: PLC0415 - nothing else of the agent needs it

    text = cmdline.encode() + b"\0"
    with kernel.open("rb") as one, initrd.open("rb") as other:
        failed = _libc().syscall(
            _SYS_KEXEC_FILE_LOAD, one.fileno(), other.fileno(), ctypes.c_ulong(len(text)), text, ctypes.c_ulong(0)
        )
    if failed:
        problem = os.strerror(ctypes.get_errno())
        raise AgentError("kexec-failed", f"the kernel does not take the installer: {problem}", "use another door")


def _libc() -> Any:
    try:
        import ctypes  # noqa: PLC0415 - nothing else of the agent needs it
    except ImportError as error:
        raise AgentError("kexec-failed", f"this Python cannot call the kernel: {error}", "use another door") from error
    return ctypes.CDLL(None, use_errno=True)


def _cpio_entry(name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device and its kind twice over, length of the name, sum
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
