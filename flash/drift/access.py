"""Compare who gets in: accounts, sudo, SSH keys, the host's own key, and what runs in people's names."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from flash.drift.expected import Expected
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import Observation
from qtrade.manifest import DriftKind

_PERSISTS = "it lies in /var, which survives reboots: find out who did it, and remove it on the host"


def compare_accounts(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare users and groups with the image's."""
    del expected
    accounts = observation.accounts
    if accounts is None:
        return
    yield from _compare_named("user", accounts.declared.users, accounts.found.users)
    yield from _compare_named("group", accounts.declared.groups, accounts.found.groups)


def _compare_named(what: str, declared: Mapping[str, BaseModel], found: Mapping[str, BaseModel]) -> Iterator[Finding]:
    for name in sorted({*declared, *found}):
        wanted, there = declared.get(name), found.get(name)
        if wanted == there:
            continue
        change = "added" if wanted is None else "removed" if there is None else "changed"
        yield Finding(
            DriftKind.USER, f"{what} {name}", f"the {what} was {change}", Remedy.REBOOT, _show(wanted), _show(there)
        )  # fmt: skip


def _show(account: BaseModel | None) -> str:
    return "none" if account is None else " ".join(f"{name} {value}" for name, value in account.model_dump().items())


def compare_sudo(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the files that sudo reads; that one was changed is also in the upper directory, this also sees what is mounted over it."""
    del expected
    sudo = observation.sudo
    if sudo is None:
        return
    for path in sorted({*sudo.declared, *sudo.found}):
        wanted, there = sudo.declared.get(path, "none"), sudo.found.get(path, "none")
        if wanted != there:
            yield Finding(DriftKind.SUDO, f"/{path}", "what sudo reads was changed", Remedy.REBOOT, wanted, there)


def compare_ssh(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the host's key with the pinned one, and see that no home has keys of its own."""
    ssh = observation.ssh
    if ssh is None:
        return
    if expected.host_key and ssh.host_key != expected.host_key:
        yield host_key_changed(expected.host_key, ssh.host_key or "no key")
    elif ssh.host_key_file and ssh.host_key_file != ssh.host_key:
        yield Finding(
            DriftKind.HOST_KEY, "ssh_host_ed25519_key.pub", "the public file is of another key than the private one", Remedy.HAND,
            ssh.host_key, ssh.host_key_file, "remove it on the host, and reboot: it is written anew when the pair is incomplete",
        )  # fmt: skip
    for path, lines in sorted(ssh.home_keys.items()):
        yield Finding(
            DriftKind.SSH_KEY, path, "a home has a key file of its own, which sshd is not to read", Remedy.HAND, "none",
            f"{lines} lines", _PERSISTS,
        )  # fmt: skip


def host_key_changed(pinned: str, found: str) -> Finding:
    """Return the finding for a host that shows another key than the pinned one."""
    return Finding(
        DriftKind.HOST_KEY, "ssh_host_ed25519_key", "the host's SSH key is not the pinned one", Remedy.HAND, pinned, found,
        "find out why; if nobody changed it, somebody may stand in between. Flash the host with --wipe-state to give it a new key",
    )  # fmt: skip


def compare_spools(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """See that nobody has jobs that run by themselves."""
    del expected
    for path in observation.spools or ():
        yield Finding(
            DriftKind.CRON, path, "somebody's jobs run by themselves", Remedy.HAND, "none", "there", _PERSISTS
        )  # fmt: skip
