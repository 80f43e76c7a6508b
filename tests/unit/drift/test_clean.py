"""What differs and is no drift, and what looks the same and is: the fine print of each comparison."""

import json
from dataclasses import replace

import pytest

from flash.drift.compare import compare
from flash.drift.expected import expect
from flash.drift.findings import Remedy
from flash.drift.observation import parse_observation
from flash.inventory import load_environment, load_host
from qtrade.errors import HostError
from tests.fakes.drifting_host import NAME, SSH_LISTENS, STOPPED, TCP, push

pytestmark = pytest.mark.unit


def found(host, **changes) -> set[tuple[str, str]]:
    """Return kind and subject of each finding; `changes` are of what is expected."""
    manifest = load_host(host.settings, NAME)
    expected = replace(
        expect(host.settings, manifest, load_environment(host.settings, manifest), host.image), **changes
    )
    return {(one.kind, one.subject) for one in compare(expected, parse_observation(host.observe(), NAME))}


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("chrony.service", ("loaded", "inactive", "dead", "no")),
        ("chrony.service", ("loaded", "activating", "start", "yes")),
        ("once.service", STOPPED),
        ("other.service", STOPPED),
    ],
    ids=["its condition does not hold", "it starts", "it runs once", "nobody declares it"],
)
def test_a_unit_that_waits_or_is_done_is_no_drift(host, name, state) -> None:
    host.units[name] = state
    assert found(host) == set()


def test_a_unit_that_a_drain_stopped_is_no_drift(host) -> None:
    host.units["chrony.service"] = STOPPED
    assert found(host) == {("unit", "chrony.service")}
    (host.folder / "run/drained").mkdir()
    (host.folder / "run/drained/chrony.service").touch()
    assert found(host) == set()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("logrotate.timer", STOPPED),
        ("chrony.service", ("masked", "active", "running", "yes")),
        ("other.service", ("loaded", "failed", "failed", "yes")),
    ],
    ids=["a timer that was stopped", "masked at run time", "failed, whoever declares it"],
)
def test_a_unit_that_is_not_as_the_image_starts_it_is_drift(host, name, state) -> None:
    host.units[name] = state
    assert found(host) == {("unit", name)}


def test_a_unit_that_systemd_does_not_know_is_drift(host) -> None:
    del host.units["logrotate.timer"]
    assert found(host) == {("unit", "logrotate.timer")}


def test_what_was_made_at_run_time_is_drift_but_for_sessions_and_our_own(host) -> None:
    systemd = host.folder / "systemd"
    paths = ("transient/run-1.service", "system.control/chrony.service.d/50-CPUQuota.conf", "system/mine.timer")
    known = (
        "transient/session-1.scope",
        "transient/user-1000.slice.d/50.conf",
        "system/systemd-machine-id-commit.service",
        "generator/made.service",
    )
    for path in (*paths, *known):
        (systemd / path).parent.mkdir(parents=True, exist_ok=True)
        (systemd / path).touch()
    assert found(host) == {("unit", f"/run/systemd/{path}") for path in paths}


@pytest.mark.parametrize(
    ("table", "address", "is_drift"),
    [
        ("tcp", "0100007F:2328", False),  # 127.0.0.1:9000, loopback by the role's word
        ("tcp", "00000000:2328", True),  # the same, for the world
        ("tcp", "00000000:22C3", False),  # 8899: for an allow list
        ("udp", "00000000:1F40", False),  # 8000: in the range
        ("udp", "00000000:1F5F", True),  # 8031: beyond it
        ("udp", "00000000:C350", False),  # 50000: a client's
        ("tcp", "00000000:C350", True),  # the same by TCP listens
        ("tcp", "3500007F:0035", False),  # 127.0.0.53:53: resolved's
        ("udp", "00000000:0044", True),  # 68: this host's network gives no leases
        ("tcp6", "00000000000000000000000001000000:2328", False),  # ::1
        ("tcp6", "00000000000000000000000000000000:2328", True),
    ],
)
def test_a_socket_is_drift_where_nobody_declares_it(host, table, address, is_drift) -> None:
    line = SSH_LISTENS.replace("00000000:0016", address)
    host.proc(f"net/{table}", TCP + (line if table.startswith("tcp") else line.replace(" 0A ", " 07 ")))
    assert {kind for kind, _ in found(host)} == ({"port"} if is_drift else set())


def test_a_lease_may_be_renewed_where_the_network_gives_some(host) -> None:
    host.proc("net/udp", TCP + SSH_LISTENS.replace(":0016", ":0044").replace(" 0A ", " 07 "))
    assert found(host, uses_dhcp=True) == set()


def test_a_connection_is_no_socket_that_listens(host) -> None:
    host.proc("net/tcp", TCP + SSH_LISTENS.replace(":0016", ":115C").replace(" 0A ", " 01 "))
    assert found(host) == set()


def test_a_sysctl_that_this_kernel_lacks_is_no_drift(host) -> None:
    (host.folder / "proc/sys/net/core/rmem_max").unlink()
    assert found(host) == set()


def test_counters_and_only_counters_of_the_firewall_may_differ(host) -> None:
    host.saved = host.saved.replace("[12:340]", "[99:1]")
    assert found(host) == set()
    rules = host.saved.split("# next")[0]
    first, second = (line for line in rules.splitlines() if line.startswith("-A"))
    host.saved = host.saved.replace(f"{first}\n{second}", f"{second}\n{first}", 1)
    assert found(host) == {("firewall", "v4 filter INPUT")}


def test_a_table_of_nftables_is_drift(host) -> None:
    host.saved += "table inet mine\n"
    assert found(host) == {("firewall", "table inet mine")}


@pytest.mark.parametrize(
    ("line", "is_drift"),
    [
        ("9 1 0:9 / /run/credentials/x ro - ramfs ramfs rw", False),
        ("9 1 0:9 / /run/user/1000 rw - tmpfs tmpfs rw", False),
        ("9 1 0:9 / /etc/cron.d rw - tmpfs tmpfs rw", True),
        ("9 1 8:4 /x /etc/passwd rw - ext4 /dev/vda4 rw", True),
        ("9 1 8:9 / /run/stick rw - vfat /dev/sdc1 rw", True),
        ("9 1 0:9 / /run/qtrade/layers/12 rw - tmpfs tmpfs rw", True),
        ("9 1 0:9 / /run/qtrade/layers/11 ro - tmpfs tmpfs rw", True),
        ("9 1 8:4 /x /var rw - ext4 /dev/vda4 rw", True),
        ("9 1 8:4 /host/hostname /run/qtrade/state/config/1/hostname rw - ext4 /dev/vda4 rw", False),
        ("9 1 8:4 /mine /run/qtrade/state/config/1/hostname rw - ext4 /dev/vda4 rw", True),
        ("9 1 8:4 /h /etc/machine-id rw - ext4 /dev/vda4 rw", False),
    ],
)
def test_a_mount_is_drift_where_nobody_asks_for_it(host, line, is_drift) -> None:
    table = host.folder / "proc/1/mountinfo"
    table.write_text(f"{table.read_text()}{line}\n")
    assert {kind for kind, _ in found(host)} - {"image"} == ({"mount"} if is_drift else set())


def test_a_mount_of_another_filesystem_or_in_another_mode_is_drift(host) -> None:
    table = host.folder / "proc/1/mountinfo"
    before = table.read_text()
    table.write_text(before.replace("8:17", "8:99"))
    assert found(host) == {("mount", "/srv/ledger")}
    table.write_text(before.replace("ext4 /dev/vdb rw", "ext4 /dev/vdb ro"))
    assert found(host) == {("mount", "/srv/ledger")}
    table.write_text(before.replace("/run/qtrade/system ro", "/run/qtrade/system rw"))
    assert found(host) == {("mount", "/run/qtrade/system")}


def test_a_protected_disk_that_is_mounted_is_drift(host) -> None:
    uuid = next((host.folder / "dev/disk/by-uuid").iterdir()).name
    assert ("mount", "/srv/ledger") in found(host, protected=frozenset({uuid}))


def test_a_file_of_the_config_with_another_mode_is_drift_that_a_push_cures(host) -> None:
    facts = host.folder / "run/state/config/current/hostname"
    facts.chmod(0o600)
    assert found(host) == {("config", "hostname")}
    push(host, 2)
    assert found(host) == set()


def test_of_the_host_name_that_the_initramfs_mounts_over_the_configs_only_the_content_counts(host) -> None:
    table, file = host.folder / "proc/1/mountinfo", host.folder / "run/state/config/current/hostname"
    table.write_text(
        f"{table.read_text()}9 1 8:4 /host/hostname /run/qtrade/state/config/1/hostname rw - ext4 /dev/vda4 rw\n"
    )
    file.chmod(0o444)
    assert found(host) == set()
    file.chmod(0o644)
    file.write_text("other\n")
    assert found(host) == {("config", "hostname")}


def test_a_secret_that_is_missing_or_too_many_is_drift(host) -> None:
    assert found(host, secrets=frozenset({"api_key"})) == {("config", "secret api_key")}
    (host.folder / "run/state/credstore/api_key").touch()
    assert found(host, secrets=frozenset({"api_key"})) == set()
    assert found(host) == {("config", "secret api_key")}


def test_what_lies_on_the_state_partition_and_is_nobodys_is_drift(host) -> None:
    (host.folder / "run/state/implant").touch()
    (host.folder / "run/state/host/key2").touch()
    assert found(host) == {("file", "/run/qtrade/state/implant"), ("file", "/run/qtrade/state/host/key2")}


def test_a_host_that_fell_back_is_drift(host) -> None:
    host.boot = {"default": "f" * 64, "previous": host.image.id, "once": "", "failed_boots": 3}
    assert found(host) == {("image", "default"), ("image", "failed_boots")}


def test_another_command_line_of_the_next_boot_is_drift_that_a_flash_cures(host) -> None:
    entry = host.folder / "run/system/images" / host.image.id / "entry.cfg"
    entry.write_text(entry.read_text().replace("quiet", "quiet init=/bin/sh"))
    assert found(host) == {("cmdline", "entry")}
    assert found(host, host_cmdline="isolcpus=2") == {("cmdline", "entry"), ("cmdline", "running")}


def test_a_home_with_keys_of_its_own_is_drift_that_only_a_person_cures(host) -> None:
    path = host.folder / "root/var/home/operator/.ssh/authorized_keys"
    path.parent.mkdir(parents=True)
    path.write_text("ssh-ed25519 CCCC\n")
    manifest = load_host(host.settings, NAME)
    expected = expect(host.settings, manifest, load_environment(host.settings, manifest), host.image)
    (finding,) = compare(expected, parse_observation(host.observe(), NAME))
    assert (finding.kind, finding.subject, finding.remedy) == (
        "ssh_key",
        "/var/home/operator/.ssh/authorized_keys",
        Remedy.HAND,
    )


def test_what_cannot_be_read_is_told_and_hides_nothing_else(host) -> None:
    (host.folder / "run/system/images" / host.image.id / "list").unlink()
    host.write("etc/motd", "mine\n")
    assert found(host) == {("unobserved", "image"), ("file", "/etc/motd")}


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "cannot be read"), ("not json", "cannot be read"), (None, "calls itself rpc-1")],
)
def test_an_answer_that_is_none_is_refused(host, text, said) -> None:
    with pytest.raises(HostError, match=said):
        parse_observation(text or host.observe(), "rpc-1" if text else "rpc-2")


def test_an_agent_that_says_more_is_understood(host) -> None:
    more = {**json.loads(host.observe()), "more": 1}
    assert parse_observation(json.dumps(more), NAME).host == NAME
