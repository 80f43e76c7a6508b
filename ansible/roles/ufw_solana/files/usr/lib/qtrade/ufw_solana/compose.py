"""Compose the files that ufw reads into one ruleset per IP version, for one iptables-restore each at boot (run at bake).

ufw's own ufw-init starts some thirty programs for the same rules, one after the other, and lets traffic through until it is done; one
restore is one transaction per table. `ufw status` stays true, as it reads the same files and asks the kernel for the same chains. The table
raw, which ufw has no place for, is added as it is.
"""

import argparse
import re
import sys
from pathlib import Path

ETC = Path("/etc")
TARGET = Path("/usr/lib/qtrade/ufw_solana")
VERSIONS = {4: "", 6: "6"}
FILES = ("before", "after", "user")
DIRECTIONS = ("input", "output", "forward")
# The order in which ufw-init calls them from INPUT, OUTPUT and FORWARD.
PRIMARY = ("before-logging", "before", "after", "after-logging", "reject", "track")
_POLICY = re.compile(r'^DEFAULT_(INPUT|OUTPUT|FORWARD)_POLICY="?(\w+)"?\s*$', re.MULTILINE)
_CHAIN = re.compile(r":(\S+) - \[0:0\]\Z")
_RULE = re.compile(r"-[AI] (\S+) \S")


def read_policies(defaults: str) -> dict[str, str]:
    """Return the policy of each direction from the text of /etc/default/ufw. Raises `ValueError`."""
    policies = {name.lower(): policy for name, policy in _POLICY.findall(defaults)}
    if set(policies) != set(DIRECTIONS) or not set(policies.values()) <= {"ACCEPT", "DROP"}:
        raise ValueError(
            f"default/ufw: a policy ACCEPT or DROP is needed for {', '.join(DIRECTIONS)}; found {policies}"
        )
    return policies


def read_rules(name: str, text: str) -> tuple[list[str], list[str]]:
    """Return the chains that a rules file declares, and its rules. Raises `ValueError` for what does not belong there."""
    chains: list[str] = []
    rules: list[str] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#") or line in {"*filter", "COMMIT"}:
            continue
        chain = _CHAIN.match(line)
        if chain:
            chains.append(chain[1])
        elif _RULE.match(line):
            rules.append(line)
        else:
            raise ValueError(f"{name}, line {number}: {line!r} is neither a chain nor a rule of the table filter")
    return chains, rules


def compose(prefix: str, policies: dict[str, str], files: dict[str, str]) -> str:
    """Return the whole table as iptables-restore reads it; `prefix` is ufw or ufw6, `files` the rules files by name.

    Raises `ValueError`, also for a rule in a chain that nothing declares: iptables would refuse it at boot.
    """
    chains = [f"{prefix}-{name}-{direction}" for name in PRIMARY for direction in DIRECTIONS]
    chains += [f"{prefix}-skip-to-policy-{direction}" for direction in DIRECTIONS]
    rules = [f"-A {one.upper()} -j {prefix}-{name}-{one}" for one in DIRECTIONS for name in PRIMARY]
    for direction in DIRECTIONS:
        policy = policies[direction]
        rules.append(f"-A {prefix}-skip-to-policy-{direction} -j {policy}")
        if policy == "ACCEPT":
            rules += [
                f"-A {prefix}-track-{direction} -p {protocol} -m conntrack --ctstate NEW -j ACCEPT"
                for protocol in ("tcp", "udp")
            ]
    for name, text in files.items():
        declared, own = read_rules(name, text)
        chains += declared
        rules += own
    rules += [f"-A {prefix}-before-{one} -j {prefix}-user-{one}" for one in DIRECTIONS]
    known = {*chains, *(direction.upper() for direction in DIRECTIONS)}
    for rule in rules:
        if rule.split()[1] not in known:
            raise ValueError(f"{rule!r}: no file declares the chain")
    head = [f":{one.upper()} {policies[one]} [0:0]" for one in DIRECTIONS]
    return "\n".join(["*filter", *head, *(f":{one} - [0:0]" for one in dict.fromkeys(chains)), *rules, "COMMIT", ""])


def compose_all(etc: Path, raw: Path) -> dict[str, str]:
    """Return the composed rulesets by file name. Raises `ValueError` and `OSError`."""
    policies = read_policies((etc / "default/ufw").read_text())
    return {
        f"boot.v{version}.rules": compose(
            f"ufw{suffix}",
            policies,
            {f"{one}{suffix}.rules": (etc / f"ufw/{one}{suffix}.rules").read_text() for one in FILES},
        )
        + raw.read_text()
        for version, suffix in VERSIONS.items()
    }


def main() -> None:
    """Write what differs and print its paths; with `--check` write nothing and fail when something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the rulesets are not up to date")
    arguments = parser.parse_args()
    try:
        wanted = compose_all(ETC, TARGET / "raw.rules")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    stale = {
        TARGET / name: text
        for name, text in wanted.items()
        if not (TARGET / name).is_file() or (TARGET / name).read_text() != text
    }
    if arguments.check and stale:
        sys.exit(f"not what ufw's files say: {', '.join(map(str, stale))}")
    for path, text in stale.items():
        path.write_text(text)
        path.chmod(0o644)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
