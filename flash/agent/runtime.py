"""What the kernel of the running host says, beside what the image asks of it: sysctls, listening ports, mounts, command line, time zone."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from .lower import Lower

_SYSCTL_FOLDERS = ("usr/lib/sysctl.d", "usr/local/lib/sysctl.d", "etc/sysctl.d")
_LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
_ESCAPE = re.compile(r"\\([0-7]{3})")
_ZONES = "zoneinfo/"


def read_sysctls(proc: Path, lower: Lower) -> Dict[str, Any]:
    """Return the sysctls that the image sets, and their values now; null where this kernel has no such setting."""
    declared = declared_sysctls(lower)
    return {"declared": declared, "found": {name: _read_sysctl(proc, name) for name in declared}}


def declared_sysctls(lower: Lower) -> Dict[str, str]:
    """Return name -> value as systemd-sysctl would set them: files by name, /etc before /usr/lib, the last line counts (sysctl.d(5)).

    Patterns are left out: they are of interfaces, which come and go.
    """
    files: Dict[str, str] = {}
    for folder in _SYSCTL_FOLDERS:
        for name in lower.names(folder):
            if name.endswith(".conf"):
                files[name] = f"{folder}/{name}"
    settings: Dict[str, str] = {}
    for name in sorted(files):
        settings.update(_parse_sysctls(lower.read(files[name]) or ""))
    return settings


def read_ports(proc: Path, lower: Lower) -> Dict[str, Any]:
    """Return the sockets that listen (`found`: protocol, address, port, uid), the roles' interfaces (`declared`), and sshd's ports.

    `ephemeral` are the ports that the kernel gives to clients.
    """
    found = [socket for table in _LISTENS for socket in _read_sockets(proc / "net" / table, table)]
    texts = [
        lower.read(f"usr/share/qtrade/interfaces.d/{name}") for name in lower.names("usr/share/qtrade/interfaces.d")
    ]
    declared = [one for text in texts if text for one in json.loads(text)["interfaces"]]
    ephemeral = _text(proc / "sys/net/ipv4/ip_local_port_range").split() or ["32768", "60999"]
    return {
        "found": sorted(found, key=lambda one: (one["protocol"], one["port"], one["address"])),
        "declared": declared,
        "ssh": declared_ssh_ports(lower),
        "ephemeral": [int(one) for one in ephemeral],
    }


def declared_ssh_ports(lower: Lower) -> List[int]:
    """Return where the image's sshd listens; 22 where no file says otherwise."""
    texts = [lower.read(f"etc/ssh/sshd_config.d/{name}") or "" for name in lower.names("etc/ssh/sshd_config.d")]
    texts.append(lower.read("etc/ssh/sshd_config") or "")
    ports = [int(one) for text in texts for one in re.findall(r"(?im)^\s*Port\s+(\d+)\s*$", text)]
    return sorted(set(ports)) or [22]


def read_mounts(proc: Path, dev: Path, sysfs: Path) -> List[Dict[str, str]]:
    """Return every mount of the host: where, what, type, options, the folder of the filesystem that is shown, and the filesystem's UUID."""
    uuids = {link.readlink().name: _unescape(link.name) for link in (dev / "disk/by-uuid").glob("*")}
    table = proc / "1/mountinfo"
    found = []
    for line in _text(table if table.exists() else proc / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, what, of_super) = left.split(), right.split(" ", 2)
        found.append(
            {
                "where": _unescape(fields[4]), "what": _unescape(what), "type": kind, "options": fields[5], "super": of_super,
                "root": _unescape(fields[3]), "uuid": uuids.get(_name_of(sysfs / "dev/block" / fields[2]), ""),
            }
        )  # fmt: skip
    return found


def read_swaps(proc: Path) -> List[str]:
    """Return the swap areas that are on."""
    return [line.split()[0] for line in _text(proc / "swaps").splitlines()[1:]]


def read_time_zone(etc: Path, lower: Lower) -> Dict[str, str]:
    """Return the time zone of the image and the one now; an image without /etc/localtime is in UTC (localtime(5))."""
    link = etc / "localtime"
    now = str(link.readlink()) if link.is_symlink() else "a file of its own" if link.exists() else ""
    return {"declared": _zone(lower.link("etc/localtime") or ""), "found": _zone(now)}


def read_command_line(proc: Path, system: Path, image_id: str) -> Dict[str, str]:
    """Return the kernel's command line of this boot, and of the image's boot entry: the next one."""
    entry = re.search(r"(?m)^\s*if linux (.*); then$", _text(system / "images" / image_id / "entry.cfg"))
    words = entry.group(1).split(" ", 1) if entry else []
    return {"running": _text(proc / "cmdline").strip(), "entry": words[1].strip() if len(words) > 1 else ""}


def _zone(link: str) -> str:
    return link.rpartition(_ZONES)[2] if _ZONES in link else link or "UTC"


def _parse_sysctls(text: str) -> Iterator[Tuple[str, str]]:
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] in "#;" or "=" not in line:
            continue
        key, value = (part.strip() for part in line.split("=", 1))
        key = key.lstrip("-")
        if not set("*?[") & set(key):
            # As sysctl does: with a slash first, the dots of an interface stay.
            first = re.search(r"[./]", key)
            yield (key if first and first.group() == "/" else key.replace(".", "/")), " ".join(value.split())


def _read_sysctl(proc: Path, name: str) -> Any:
    try:
        return " ".join((proc / "sys" / name).read_text().split())
    except OSError:
        return None


def _read_sockets(table: Path, protocol: str) -> Iterator[Dict[str, Any]]:
    for line in _text(table).splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[3] == _LISTENS[protocol]:
            address, _, port = fields[1].partition(":")
            yield {"protocol": protocol[:3], "address": _address(address), "port": int(port, 16), "uid": int(fields[7])}


def _address(text: str) -> str:
    """Return an address of /proc/net, whose words of four bytes are in the machine's own order (little-endian, as all our hosts are)."""
    data = bytes.fromhex(text)
    words = b"".join(data[place : place + 4][::-1] for place in range(0, len(data), 4))
    return str(ipaddress.ip_address(words))


def _name_of(link: Path) -> str:
    """Return the kernel's name of a block device that is known by its numbers, empty for what is none."""
    return link.readlink().name if link.is_symlink() else ""


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
