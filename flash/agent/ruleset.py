"""The packet filter: what the kernel holds, beside what it would hold of the image's own files.

These are loaded into a network namespace of their own, so that the kernel writes both, in one spelling and order.
"""

import importlib.util
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from .errors import AgentError
from .lower import Lower
from .programs import run

_FOLDER = "usr/lib/qtrade/ufw_solana"
_ALLOW = "ufw/allow.rules"
_SAVE = "iptables-save; echo '# next'; ip6tables-save; echo '# next'; nft list tables"
_COUNTERS = re.compile(r" \[\d+:\d+\]$")
_TIMEOUT_S = 30.0


def read_rules(lower: Lower, config: Path) -> Optional[Dict[str, Any]]:
    """Return `declared` and `found`: `v4`, `v6` (rules by table) and `tables`. None for an image that brings no firewall.

    `declared` counts in the allow list of the current config generation. Raises `AgentError` when a program fails.
    """
    if lower.find(f"{_FOLDER}/boot.v4.rules") is None:
        return None
    found = run("sh", "-euc", _SAVE, timeout_s=_TIMEOUT_S)
    script = _render_script(lower, config)
    declared = run("unshare", "--net", "sh", "-euc", f"{script}\n{_SAVE}", timeout_s=_TIMEOUT_S)
    return {"declared": parse_saved(declared), "found": parse_saved(found)}


def _render_script(lower: Lower, config: Path) -> str:
    lines = []
    allowed = _render_allowed(lower, config / _ALLOW)
    for version, restore in ((4, "iptables-restore"), (6, "ip6tables-restore")):
        boot = lower.find(f"{_FOLDER}/boot.v{version}.rules")
        if boot is None:
            raise AgentError("image-incomplete", f"the image has no boot.v{version}.rules", "bake it again")
        lines.append(f"{restore} {boot}")
        if version in allowed:
            lines.append(f"{restore} --noflush <<'end-of-rules'\n{allowed[version]}end-of-rules")
    return "\n".join(lines)


def _render_allowed(lower: Lower, allow_list: Path) -> Dict[int, str]:
    """Return what the image's own program makes of the allow list, by IP version; nothing is allowed where there is no list.

    It is loaded into this process: a Python of its own would take longer than all the rest.
    """
    program = lower.find(f"{_FOLDER}/allow_list.py")
    if program is None or not allow_list.is_file() or not allow_list.read_text().strip():
        return {}
    spec = importlib.util.spec_from_file_location("qtrade_allow_list", program)
    if spec is None or spec.loader is None:
        raise AgentError("image-incomplete", f"{program} cannot be loaded", "bake the image again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rules: Dict[int, str] = module.render_rules(allow_list.read_text())
    return rules


def parse_saved(text: str) -> Dict[str, Any]:
    """Parse the output of iptables-save, ip6tables-save and `nft list tables`, each after a line `# next`.

    Chains keep the order of their rules; what counts packets is left out.
    """
    parts = [part.strip().splitlines() for part in text.split("# next")]
    if len(parts) != 3:
        raise AgentError(
            "rules-unreadable", "iptables-save, ip6tables-save and nft did not all answer", "run them by hand"
        )
    return {"v4": _parse_tables(parts[0]), "v6": _parse_tables(parts[1]), "tables": sorted(parts[2])}


def _parse_tables(lines: List[str]) -> Dict[str, List[str]]:
    """Return chain (`filter INPUT`) -> its policy and rules."""
    chains: Dict[str, List[str]] = {}
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy = _COUNTERS.sub("", line[1:]).split(" ", 1)
            chains.setdefault(f"{table} {name}", []).insert(0, f"policy {policy}")
        elif line.startswith("-A "):
            chains.setdefault(f"{table} {line.split(' ', 2)[1]}", []).append(line)
    return chains
