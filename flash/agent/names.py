"""Owner names of an image: its own passwd and group, not those of the system that the agent runs on."""

from typing import Dict, NamedTuple

from .errors import AgentError


class Names(NamedTuple):
    """Users and groups by name."""

    users: Dict[str, int]
    groups: Dict[str, int]

    def user(self, name: str) -> int:
        """Return the id of a user given by name or number. Raises `AgentError`."""
        return _resolve(self.users, name, "user")

    def group(self, name: str) -> int:
        """Return the id of a group given by name or number. Raises `AgentError`."""
        return _resolve(self.groups, name, "group")


def parse_names(passwd: str, group: str) -> Names:
    """Parse the texts of /etc/passwd and /etc/group."""
    return Names(_parse(passwd), _parse(group))


def _parse(text: str) -> Dict[str, int]:
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}


def _resolve(table: Dict[str, int], name: str, what: str) -> int:
    if name.isdigit() and name.isascii():
        return int(name)
    if name == "root":
        return 0
    if name not in table:
        raise AgentError(
            "owner-unknown", f"the image has no {what} {name}", "correct owner or group in the role's config/inputs.yml"
        )
    return table[name]
