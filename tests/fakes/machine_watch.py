"""What a command did to the machine that it ran on: files, listening sockets, addresses, mounts, kernel settings.

`python -m tests.fakes.machine_watch REPORT COMMAND …` runs the command and writes what is different afterwards. It is meant to be run in
network and mount namespaces of its own (`unshare --net --mount`), so that what others do meanwhile is not taken for the command's.
"""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

# Where a machine keeps what it is; a bake has its own folders elsewhere.
ROOTS = (
    "/etc",
    "/usr",
    "/opt",
    "/boot",
    "/srv",
    "/root",
    "/var/lib/dpkg",
    "/var/lib/apt/extended_states",
    "/var/lib/systemd",
)
# Tests, tools and state of the project itself change.
HERE = Path(__file__).resolve().parents[2]
# Byte code, and what shells and tools of people at work write into their home.
LEFT_OUT = ("__pycache__", ".cache", ".bash_history", ".python_history", ".ssh", ".ansible")
SETTINGS = ("/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs", "/proc/sys/net/ipv4", "/proc/sys/net/core")
# They count, or are drawn by lot.
MOVING = (
    "random", "ns_last_pid", "pty", "tainted", "dentry-state", "file-nr", "inode-nr", "inode-state", "aio-nr", "overflow", "stat_refresh",
    "tcp_mem", "udp_mem", "tcp_fastopen_key", "perf_event_max_sample_rate", "sched_domain", "route", "quota/syncs", "drop_caches",
)  # fmt: skip


def read_files(roots: tuple[str, ...] = ROOTS) -> dict[str, str]:
    """Return kind, mode, owner, size and times of change of everything below the roots."""
    found = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in LEFT_OUT and Path(folder, name) != HERE]
            for name in (*folders, *files):
                path = os.path.join(folder, name)  # noqa: PTH118 - a hundred thousand times
                if name not in LEFT_OUT:
                    facts = os.lstat(path)
                    # A folder's times change when byte code is written into it.
                    times = () if stat.S_ISDIR(facts.st_mode) else (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
                    found[path] = f"{facts.st_mode:o} {facts.st_uid} {facts.st_gid} {times}"
    return found


def read_sockets() -> dict[str, str]:
    """Return the sockets that listen, by protocol and address, of this network namespace."""
    found = {}
    for protocol, states in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07")):
        for line in Path("/proc/net", protocol).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == states:
                found[f"{protocol} {fields[1]}"] = "listens"
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "00010000" and len(fields) > 7:
            found[f"unix {fields[7]}"] = "listens"
    return found


def read_settings() -> dict[str, str]:
    """Return the kernel's settings and the host name; what cannot be read is left out."""
    found = {"hostname": os.uname().nodename}
    for root in SETTINGS:
        for folder, _, files in os.walk(root):
            for name in files:
                path = Path(folder, name)
                if any(word in str(path) for word in MOVING):
                    continue
                try:
                    found[str(path)] = path.read_text(errors="replace")
                except OSError:
                    continue
    return found


def read_all() -> dict[str, dict[str, str]]:
    """Return all that is looked at, by kind."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    state = os.environ.get("QTRADE_STATE_DIR", "/")
    files = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return {
        "file": read_files(),
        "socket": read_sockets(),
        "setting": read_settings(),
        "mount": {line.split(" ")[4]: line.split(" - ")[-1] for line in mounts},
        "address": dict.fromkeys(re.findall(r"[|]-- ([0-9.]+)", Path("/proc/net/fib_trie").read_text()), ""),
        "loop device of": {file: "" for file in files if file.startswith(state)},
    }


def compare(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> list[str]:
    """Return what is different, as `kind name: what`."""
    found = []
    for kind, earlier in before.items():
        later = after[kind]
        found += [f"{kind} {name}: is new" for name in later.keys() - earlier.keys()]
        found += [f"{kind} {name}: is gone" for name in earlier.keys() - later.keys()]
        found += [f"{kind} {name}: changed" for name in earlier.keys() & later.keys() if earlier[name] != later[name]]
    return sorted(found)


def main() -> int:
    """Run the command of the arguments between two looks."""
    report, *command = sys.argv[1:]
    before = read_all()
    code = subprocess.run(command, check=False).returncode
    Path(report).write_text(json.dumps(compare(before, read_all())))
    return code


if __name__ == "__main__":
    sys.exit(main())
