"""What people may do as the validator's user, and that nobody reads its key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

VALIDATOR = "/opt/agave/current/bin/agave-validator"
ASK = f"{VALIDATOR} --ledger /mnt/ledger"
LOG = "/var/log/agave/validator.log"
STATE = "/var/lib/agave"
# What the operator may run as the validator's user, and what may be asked of it.
LOOKS = (
    "/usr/lib/qtrade/agave/validator.sh --show",
    f"{ASK} contact-info",
    f"{ASK} plugin list",
    f"/usr/bin/tail -n 5 {LOG}",
)
WATCHES = (f"{ASK} monitor", f"/usr/bin/tail -n 5 -F {LOG}")
AFTER_A_STOP = (
    f"/usr/bin/cat {STATE}/last-stop.json",
    f"/usr/bin/ls -lR {STATE}/tower",
    f"/usr/bin/tar -C {STATE} -cf - tower",
)
IDENTITY = "/usr/lib/qtrade/agave/identity.py"
HAND_OVER = tuple(f"{IDENTITY} {verb}" for verb in ("state", "release", "take"))
AFTER_A_ROTATION = (f"/usr/bin/tail -n 100 {LOG}.1", f"/usr/bin/zcat {LOG}.2.gz")
NEVER = (
    f"/usr/bin/cat {STATE}/unstaked-identity.json", f"/usr/bin/tail -n 5 {STATE}/identity.json",
    f"/usr/bin/tail -n 5 {LOG} {STATE}/identity.json", f"/usr/bin/tail -n 5 {LOG}/../../../lib/agave/identity.json",
    f"/usr/bin/tar -C {STATE} -cf - .", f"/usr/bin/tar -C {STATE} -cf - tower identity.json",
    f"/usr/bin/zcat {LOG}.2.gz {STATE}/identity.json", "/usr/lib/qtrade/agave/validator.sh",
    IDENTITY, f"{IDENTITY} take {STATE}/key.json",
    f"{ASK} exit", f"{ASK} set-identity {STATE}/unstaked-identity.json", f"{ASK} plugin unload x",
)  # fmt: skip


@pytest.mark.layer
def test_sudoers_are_valid_and_of_root(host: Host) -> None:
    assert host.run("/usr/sbin/visudo -c").succeeded
    rules = host.file("/etc/sudoers.d/20-agave")
    assert (rules.mode, rules.user) == (0o440, "root")


@pytest.mark.layer
@pytest.mark.parametrize("command", [*LOOKS, *WATCHES, *AFTER_A_STOP, *AFTER_A_ROTATION, *HAND_OVER])
def test_operator_may_look_as_the_validators_user(host: Host, command: str) -> None:
    assert host.run(f"sudo -l -U operator -u sol {command}").succeeded
    assert host.run(f"sudo -l -U operator -u root {command}").failed
    assert host.run(f"sudo -l -U readonly -u sol {command}").failed


@pytest.mark.layer
@pytest.mark.parametrize("command", NEVER)
def test_operator_may_do_nothing_else_as_the_validators_user(host: Host, command: str) -> None:
    assert host.run(f"sudo -l -U operator -u sol {command}").failed


@pytest.mark.layer
def test_a_hand_over_needs_its_words_on_stdin(host: Host) -> None:
    """No option of the program takes a key, and one that is asked nothing says so without a traceback."""
    done = host.run(f"echo '{{}}' | {IDENTITY} state")
    assert (done.exit_status, json.loads(done.stdout)["ok"], "Traceback" in done.stderr) == (1, False, False)
    assert host.run(f"{IDENTITY} take /dev/null").exit_status == 2


@pytest.mark.host
def test_the_validator_runs_unstaked_unless_it_was_given_an_identity(host: Host) -> None:
    def ask(identity: str) -> dict[str, Any]:
        request = json.dumps({"identity": identity, "nonce": "n"})
        return json.loads(host.check_output(f"echo '{request}' | sudo -n -u sol {IDENTITY} state"))

    state = ask("1" * 32)
    assert (state["ok"], state["nonce"], state["files"]) == (True, "n", {})
    assert state["running"] == state["unstaked"] or ask(state["running"])["taken"] > 0


@pytest.mark.host
@pytest.mark.parametrize("command", LOOKS)
def test_operator_looks_at_the_validator(host: Host, command: str) -> None:
    assert host.check_output(f"sudo -n -u sol {command}")


@pytest.mark.host
@pytest.mark.parametrize("command", WATCHES)
def test_operator_watches_the_validator(host: Host, command: str) -> None:
    # As long as it takes to say something: a host that has just booted is busy.
    done = host.run(f"timeout 90 sudo -n -u sol {command} | head -c 1")
    assert done.stdout, done.stderr


@pytest.mark.host
@pytest.mark.parametrize("command", AFTER_A_STOP)
def test_operator_reads_what_a_stop_left(host: Host, command: str) -> None:
    """A validator that has never stopped left nothing."""
    done = host.run(f"sudo -n -u sol {command}")
    assert done.succeeded or "No such file" in done.stderr, done.stderr


@pytest.mark.host
@pytest.mark.parametrize("path", [f"{STATE}/unstaked-identity.json", f"{STATE}/identity.json"])
def test_no_login_reads_the_key(host: Host, path: str) -> None:
    assert host.run(f"cat {path}").failed
    assert host.run(f"sudo -n -u sol /usr/bin/cat {path}").failed
