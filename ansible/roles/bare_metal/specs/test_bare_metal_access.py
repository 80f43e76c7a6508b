"""What bare_metal promises of access: users, groups, SSH and sudo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

IDS = yaml.safe_load((Path(__file__).parents[4] / "manifests" / "ids.yaml").read_text())
CURRENT = "/run/qtrade/state/config/current"
SSHD = {
    "permitrootlogin": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "authenticationmethods": "publickey",
    "allowgroups": "ssh-users",
    "maxauthtries": "3",
    "allowtcpforwarding": "no",
    "x11forwarding": "no",
    "permittunnel": "no",
    "authorizedkeysfile": f"{CURRENT}/ssh/authorized_keys/%u",
    "hostkeyalgorithms": "ssh-ed25519",
}


def read_sshd(text: str) -> dict[str, str]:
    """Return the settings that `sshd -T` prints, by keyword."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("wanted", IDS["users"], ids=lambda user: user["name"])
def test_user_has_its_fixed_id(host: Host, wanted: dict[str, Any]) -> None:
    user = host.user(wanted["name"])
    assert (user.uid, user.group, user.home, user.shell) == (
        wanted["uid"],
        wanted["group"],
        wanted["home"],
        wanted["shell"],
    )
    assert set(wanted["groups"]) <= set(user.groups)


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("wanted", IDS["groups"], ids=lambda group: group["name"])
def test_group_has_its_fixed_id(host: Host, wanted: dict[str, Any]) -> None:
    assert host.group(wanted["name"]).gid == wanted["gid"]


@pytest.mark.layer
def test_no_id_is_outside_the_table(host: Host) -> None:
    known = {user["name"] for user in IDS["users"]}
    lines = host.file("/etc/passwd").content_string.splitlines()
    found = {name for name, _, uid, *_ in (line.split(":") for line in lines) if 100 <= int(uid) < 65534}
    assert found <= known


@pytest.mark.layer
def test_no_account_has_a_password(host: Host) -> None:
    passwords = [line.split(":")[1] for line in host.file("/etc/shadow").content_string.splitlines()]
    assert all(password[:1] in {"!", "*"} for password in passwords)


@pytest.mark.layer
def test_sshd_accepts_the_config_and_is_strict(host: Host) -> None:
    """With a key of its own, as the host's key is not in the image."""
    make_key = "mkdir -p /run/sshd && rm -f /tmp/spec-key* && ssh-keygen -q -t ed25519 -N '' -f /tmp/spec-key"
    found = read_sshd(host.check_output(f"{make_key} && sshd -T -h /tmp/spec-key 2>/dev/null; rm -f /tmp/spec-key*"))
    assert SSHD.items() <= found.items()
    assert "cbc" not in found["ciphers"]
    assert "sha1" not in found["macs"] + found["kexalgorithms"]


@pytest.mark.layer
@pytest.mark.parametrize("line", ["PermitRotLogin no", "Ciphers aes129-ctr", "MaxAuthTries three"])
def test_the_check_at_bake_refuses_what_sshd_would_not_start_with(host: Host, line: str) -> None:
    check = "/usr/sbin/sshd -G -f"
    assert host.run(f"{check} /etc/ssh/sshd_config.d/10-qtrade.conf").succeeded
    assert host.run(
        f"cd /tmp && echo '{line}' > spec-sshd && {check} spec-sshd; code=$?; rm spec-sshd; exit $code"
    ).failed


@pytest.mark.booted
def test_sshd_runs_with_the_config(host: Host) -> None:
    found = read_sshd(host.check_output("sudo -n /usr/sbin/sshd -T"))
    assert SSHD.items() <= found.items()
    assert found["hostkey"] == "/run/qtrade/state/host/ssh_host_ed25519_key"


@pytest.mark.booted
def test_deploy_may_open_a_reverse_tunnel_on_loopback_only(host: Host) -> None:
    found = read_sshd(host.check_output("sudo -n /usr/sbin/sshd -T -C user=deploy"))
    assert (found["allowtcpforwarding"], found["permitlisten"]) == ("remote", "127.0.0.1:*")


@pytest.mark.layer
def test_no_host_key_is_baked(host: Host) -> None:
    assert host.run("ls /etc/ssh/ssh_host_*").failed


@pytest.mark.layer
def test_sudoers_is_valid_and_never_all(host: Host) -> None:
    assert host.run("/usr/sbin/visudo -c").succeeded
    rules = host.file("/etc/sudoers.d/10-qtrade")
    assert (rules.mode, rules.user) == (0o440, "root")
    assert "NOPASSWD: ALL" not in rules.content_string


@pytest.mark.layer
@pytest.mark.parametrize(
    ("account", "verbs"),
    [("deploy", ["run", "confirm", "status", "config", "observe"]), ("readonly", ["status", "observe"])],
)
def test_accounts_have_the_agent_only(host: Host, account: str, verbs: list[str]) -> None:
    allowed = host.check_output(f"sudo -l -U {account} 2>/dev/null").splitlines()[-1].strip()
    assert allowed == "(root) NOPASSWD: " + ", ".join(f"/usr/bin/qtrade-agent {verb}" for verb in verbs)


@pytest.mark.booted
@pytest.mark.parametrize(
    "command",
    ["/bin/sh -c true", "/usr/bin/systemctl start ssh.service", "/usr/bin/journalctl", "/usr/bin/cat /etc/shadow"],
)
def test_operator_may_not(host: Host, command: str) -> None:
    assert host.run(f"sudo -n -l {command}").failed


@pytest.mark.layer
@pytest.mark.parametrize("unit", ["agave-validator", "qtrade-client", "postgresql@9-main", "otelcol-contrib"])
def test_operator_may_start_what_systemd_gave_up(host: Host, unit: str) -> None:
    for verb in ("reset-failed", "start"):
        assert host.run(f"sudo -l -U operator /usr/bin/systemctl {verb} {unit}.service").succeeded
    for wrong in (f"reset-failed {unit}.service ssh.service", "reset-failed", f"edit {unit}.service"):
        assert host.run(f"sudo -l -U operator /usr/bin/systemctl {wrong}").failed
