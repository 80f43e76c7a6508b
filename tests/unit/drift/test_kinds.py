"""Each kind of drift, planted as a person would, is found as what it is; a host without any shows none."""

import json
from collections.abc import Callable

import pytest

from tests.fakes.drifting_host import PASSWD, RULES, SSH_LISTENS, STOPPED, TCP, DriftingHost, make_private_key

pytestmark = pytest.mark.unit


def disable_unit(host: DriftingHost) -> None:
    link = host.folder / "root/etc/systemd/system/multi-user.target.wants/chrony.service"
    link.unlink()
    # A whiteout is a device, which only root makes; the agent knows it by its numbers.
    host.units["chrony.service"] = STOPPED


def drop_mount(host: DriftingHost) -> None:
    table = host.folder / "proc/1/mountinfo"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if "/srv/ledger" not in line))


def change_zone(host: DriftingHost) -> None:
    for top in ("root", "run/rw/upper"):
        link = host.folder / top / "etc/localtime"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to("/usr/share/zoneinfo/Asia/Tokyo")


def change_cmdline(host: DriftingHost) -> None:
    path = host.folder / "proc/cmdline"
    path.write_text(f"{path.read_text().strip()} mitigations=off\n")


def change_host_key(host: DriftingHost) -> None:
    private, public = make_private_key(b"x")
    (host.folder / "run/state/host/ssh_host_ed25519_key").write_text(private)
    (host.folder / "run/state/host/ssh_host_ed25519_key.pub").write_text(f"{public}\n")


def add_key(host: DriftingHost) -> None:
    with (host.folder / "run/state/config/current/ssh/authorized_keys/operator").open("a") as keys:
        keys.write("ssh-ed25519 BBBB stranger\n")


def unpack_package(host: DriftingHost) -> None:
    status = (host.folder / "root/var/lib/dpkg/status").read_text()
    host.write(
        "var/lib/dpkg/status",
        f"{status}\nPackage: nmap\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 7\n",
    )


def open_port(host: DriftingHost) -> None:
    host.proc("net/tcp", TCP + SSH_LISTENS + SSH_LISTENS.replace(":0016", ":115C"))


def add_rule(host: DriftingHost) -> None:
    host.saved = host.saved.replace(
        RULES, RULES.replace("COMMIT", "-A INPUT -p tcp -m tcp --dport 4444 -j ACCEPT\nCOMMIT"), 1
    )


def add_crontab(host: DriftingHost) -> None:
    spool = host.folder / "root/var/spool/cron/crontabs/root"
    spool.parent.mkdir(parents=True)
    spool.write_text("* * * * * true\n")


PLANTED: dict[str, tuple[Callable[[DriftingHost], object], set[tuple[str, str]]]] = {
    "file edited": (lambda host: host.write("etc/motd", "mine\n"), {("file", "/etc/motd")}),
    "package unpacked": (unpack_package, {("package", "/var/lib/dpkg/status"), ("package", "nmap:amd64")}),
    "unit disabled": (disable_unit, {("unit", "chrony.service")}),
    "sysctl": (lambda host: host.proc("sys/vm/swappiness", "60\n"), {("sysctl", "vm.swappiness")}),
    "firewall rule": (add_rule, {("firewall", "v4 filter INPUT")}),
    "port opened": (open_port, {("port", "tcp 0.0.0.0:4444")}),
    "user added": (
        lambda host: host.write("etc/passwd", f"{PASSWD}mallory:x:0:0::/:/bin/sh\n"),
        {("user", "/etc/passwd"), ("user", "user mallory")},
    ),
    "authorized key added": (add_key, {("ssh_key", "ssh/authorized_keys/operator")}),
    "mount missing": (drop_mount, {("mount", "/srv/ledger")}),
    "host key changed": (change_host_key, {("host_key", "ssh_host_ed25519_key")}),
    "command line": (change_cmdline, {("cmdline", "running")}),
    "time zone": (change_zone, {("time_zone", "/etc/localtime")}),
    "sudo rule": (
        lambda host: host.write("etc/sudoers.d/mine", "operator ALL=(ALL) NOPASSWD: ALL\n"),
        {("sudo", "/etc/sudoers.d/mine")},
    ),
    "crontab": (add_crontab, {("cron", "/var/spool/cron/crontabs/root")}),
}


def found(cli) -> tuple[int, set[tuple[str, str]]]:
    code, out, err = cli("drift", "--host", "rpc-1", "--json")
    assert out, err
    (report,) = json.loads(out)["hosts"]
    return code, {(one["kind"], one["subject"]) for one in report["findings"]}


def test_a_host_without_drift_shows_none(host, cli) -> None:
    assert found(cli) == (0, set())


@pytest.mark.parametrize("name", PLANTED)
def test_planted_drift_is_found_and_nothing_besides(host, cli, name) -> None:
    plant, expected = PLANTED[name]
    plant(host)
    assert found(cli) == (2, expected)
