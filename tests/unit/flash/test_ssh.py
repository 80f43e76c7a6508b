"""SSH with a pinned host key, never asking anything."""

from pathlib import Path

import pytest

from flash.ssh import pin_host_key, target_for
from qtrade.errors import BadInput, HostError
from qtrade.ssh import SshTarget, public_half, unreachable
from tests.fakes.examples import make_host, make_settings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("identity", "public"), [("deploy", "deploy.pub"), ("deploy.key", "deploy.key.pub")])
def test_the_public_half_lies_where_ssh_keygen_puts_it(tmp_path, identity, public) -> None:
    assert public_half(tmp_path / identity) == tmp_path / public


TARGET = SshTarget("rpc-1", "192.0.2.10", 2222, "deploy", Path("/keys/deploy"), Path("/state/known_hosts/rpc-1"))
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for rpc-1 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = (
    "No ED25519 host key is known for rpc-1 and you have requested strict checking.\nHost key verification failed.\n"
)


def options(argv: list[str]) -> dict[str, str]:
    pairs = [argv[place + 1] for place, part in enumerate(argv) if part == "-o"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_options_are_strict_and_ask_nothing() -> None:
    assert options(TARGET.options()) == {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "/state/known_hosts/rpc-1",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": "rpc-1",
        "IdentitiesOnly": "yes",
        "IdentityFile": "/keys/deploy",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": "10",
        "ConnectionAttempts": "1",
        "NumberOfPasswordPrompts": "1",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "6",
        "LogLevel": "ERROR",
    }


def test_no_configuration_of_the_operator_is_read() -> None:
    assert TARGET.options()[:2] == ["-F", "/dev/null"]


def test_every_command_is_strict_whatever_is_added() -> None:
    argv = TARGET.argv("true", "-R", "1:2:3", "-o", "ExitOnForwardFailure=yes")
    assert options(argv)["StrictHostKeyChecking"] == "yes"
    # ssh takes the first value of an option, so nothing that is added can weaken it.
    assert argv.index("StrictHostKeyChecking=yes") < argv.index("ExitOnForwardFailure=yes")
    assert argv[-4:] == ["-p", "2222", "deploy@192.0.2.10", "true"]


def test_a_host_key_that_is_not_the_pinned_one_is_called_so() -> None:
    error = unreachable(TARGET, CHANGED)
    assert error.brief == "rpc-1 shows another SSH host key than the pinned one"
    assert "find out why" in error.resolution
    assert "qtrade hosts keys --host rpc-1 --accept" in error.resolution


def test_a_host_whose_key_is_not_pinned_yet_is_called_so() -> None:
    error = unreachable(TARGET, UNKNOWN)
    assert error.brief == "rpc-1 has no pinned SSH host key"
    assert "qtrade hosts keys --host rpc-1 --accept" in error.resolution


def test_any_other_failure_names_address_and_port() -> None:
    error = unreachable(TARGET, "ssh: connect to host 192.0.2.10 port 2222: Connection refused\n")
    assert isinstance(error, HostError)
    assert error.brief == "rpc-1 cannot be reached over SSH at 192.0.2.10:2222"
    assert error.details.endswith("Connection refused")


def test_a_pinned_key_is_kept_without_its_comment(tmp_path) -> None:
    settings = make_settings(tmp_path)
    pin_host_key(settings, "rpc-1", "ssh-ed25519 OLD root@x\n")
    pin_host_key(settings, "rpc-1", "ssh-ed25519 AAAA root@rpc-1\n")
    target = target_for(settings, make_host())
    assert target.known_hosts.read_text() == "rpc-1 ssh-ed25519 AAAA\n"
    assert [path.name for path in target.known_hosts.parent.iterdir()] == ["rpc-1"]


def test_the_target_of_a_host_comes_from_its_manifest(tmp_path) -> None:
    settings = make_settings(tmp_path)
    target = target_for(settings, make_host())
    assert (target.host, target.address, target.port, target.user) == ("rpc-1", "192.0.2.10", 22, "deploy")
    assert target_for(settings, make_host(), user="operator").user == "operator"


def test_a_host_without_a_key_to_log_in_with_is_refused(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"ssh\.identity_file is missing"):
        target_for(make_settings(tmp_path), make_host(ssh={"port": 22}))
