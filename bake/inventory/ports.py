"""The ports that the files of an image declare. It is what they say, not what a running host has open."""

import posixpath
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bake.inventory.tree import Tree

_PORT = r"(\d{1,5}(?:[-:]\d{1,5})?)"
_ADDRESS = rf"(?:\[?[0-9A-Fa-f:.*]+\]?:|localhost:)?{_PORT}"


@dataclass(frozen=True)
class Declaration:
    """Where ports are declared: files by pattern, and the lines that give one in group 1."""

    files: str
    line: re.Pattern[str]
    protocol: str


def _rule(files: str, line: str, protocol: str = "tcp") -> Declaration:
    return Declaration(files, re.compile(line, re.MULTILINE), protocol)


DECLARATIONS = (
    _rule("*/systemd/system/*.socket", rf"^ListenStream\s*=\s*{_ADDRESS}\s*$"),
    _rule("*/systemd/system/*.socket", rf"^ListenDatagram\s*=\s*{_ADDRESS}\s*$", "udp"),
    _rule("etc/ssh/sshd_config*", rf"^\s*Port\s+{_PORT}\s*$"),
    _rule("etc/chrony/chrony.conf", rf"^\s*port\s+{_PORT}\s*$", "udp"),
    _rule("etc/postgresql/*.conf", rf"^\s*port\s*=\s*{_PORT}\b"),
    _rule("etc/otelcol*/*.yaml", rf"^\s*endpoint:\s*\"?[\w.\[\]:-]+:{_PORT}\"?\s*$"),
    _rule("etc/otelcol*/*.yaml", rf"^\s*port:\s*{_PORT}\s*$"),
    _rule("etc/datadog-agent/datadog.yaml", rf"^\s*\w*port:\s*{_PORT}\s*$"),
    _rule("etc/datadog-agent/datadog.yaml", rf"^\s*endpoint:\s*\"?[\w.\[\]:-]+:{_PORT}\"?\s*$"),
    _rule("etc/yellowstone/*.json", rf"\"address\":\s*\"[^\"]*:{_PORT}\""),
    _rule("usr/lib/qtrade/*.sh", rf"--(?:\w+-)*port\s+{_PORT}\b"),
    _rule("usr/lib/qtrade/*.sh", rf"--dynamic-port-range\s+{_PORT}\b", "tcp+udp"),
    _rule("*/systemd/system/*.service*", rf"--(?:\w+-)*port[ =]{_PORT}\b"),
)
_UFW_TUPLE = re.compile(r"^### tuple ### (allow|limit) (tcp|udp|any) ([\d:,]+) (\S+) \S+ (\S+) in\b", re.MULTILINE)


def declared_ports(tree: Tree) -> dict[str, str]:
    """Return `<port or range>/<protocol> <file>` -> what declares it: a listener, or the firewall that lets it in."""
    found: dict[str, str] = {}
    for _, inventory in tree.layers:
        for path in inventory.texts:
            text = tree.text(path)
            if text is None or path not in tree.nodes:
                continue
            for rule in DECLARATIONS:
                if fnmatchcase(path, rule.files):
                    for port in filter(_is_open, rule.line.findall(text)):
                        found[f"{port.replace(':', '-')}/{rule.protocol} {path}"] = "listens"
            if posixpath.dirname(path) == "etc/ufw":
                for verb, protocol, port, to, source in _UFW_TUPLE.findall(text):
                    found[f"{port.replace(':', '-')}/{protocol} {path}"] = f"firewall {verb} from {source} to {to}"
    return dict(sorted(found.items()))


def _is_open(port: str) -> bool:
    return port != "0"  # how daemons are told not to listen
