"""What bare_metal promises; who may log in and what they may do is in test_bare_metal_access.py."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

CURRENT = "/run/qtrade/state/config/current"
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount", "sshd-keygen.service", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
    "systemd-binfmt.service", "systemd-firstboot.service", "systemd-machine-id-commit.service", "systemd-sysusers.service",
    "systemd-update-done.service",
)  # fmt: skip
SYSCTLS = {
    "net.core.rmem_max": 134217728,
    "net.core.wmem_max": 134217728,
    "net.core.rmem_default": 134217728,
    "net.core.wmem_default": 134217728,
    "vm.max_map_count": 1000000,
    "fs.nr_open": 1000000,
    "kernel.panic": 10,
    "kernel.softlockup_panic": 1,
    "kernel.hung_task_panic": 1,
    "kernel.kptr_restrict": 2,
    "fs.suid_dumpable": 0,
}
CMDLINE = ("panic=10", "audit=0", "cpufreq.default_governor=performance", "console=ttyS0,115200n8")


def read_fstab(text: str) -> list[list[str]]:
    """Return the fields of each line: what, where, type, options and two numbers."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def mount_points(text: str) -> list[str]:
    """Return where an fstab mounts something; swap is nowhere in the tree."""
    return [fields[1] for fields in read_fstab(text) if fields[2] != "swap"]


def count_swaps(text: str) -> int:
    """Return how many swap areas an fstab names."""
    return sum(fields[2] == "swap" for fields in read_fstab(text))


def baked(host: Host, name: str) -> Any:
    """Return an argument of the role as the layer was baked with it."""
    return json.loads(host.file("/usr/share/qtrade/arguments.d/bare_metal.json").content_string)["arguments"][name]


@pytest.mark.layer
@pytest.mark.parametrize("unit", MASKED)
def test_unit_is_masked(host: Host, unit: str) -> None:
    assert host.file(f"/etc/systemd/system/{unit}").linked_to == "/dev/null"


@pytest.mark.layer
@pytest.mark.parametrize(
    "unit", ["ssh.service", "chrony.service", "systemd-networkd.service", "systemd-resolved.service", "logrotate.timer"]
)
def test_unit_is_enabled(host: Host, unit: str) -> None:
    assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/etc/fstab", f"{CURRENT}/fstab"),
        ("/etc/hostname", f"{CURRENT}/hostname"),
        ("/etc/systemd/network/10-host.network", f"{CURRENT}/network/10-host.network"),
        ("/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
    ],
)
def test_link_leads_to_what_the_host_decides(host: Host, path: str, target: str) -> None:
    assert host.check_output(f"readlink {path}") == target


@pytest.mark.layer
def test_a_host_without_config_does_not_wait_for_a_network(host: Host) -> None:
    drop_in = host.file("/etc/systemd/system/systemd-networkd-wait-online.service.d/10-qtrade.conf")
    assert f"ConditionPathExists={CURRENT}/network/10-host.network" in drop_in.content_string


@pytest.mark.layer
@pytest.mark.booted
def test_inputs_are_declared(host: Host) -> None:
    inputs = json.loads(host.file("/usr/lib/qtrade/inputs.d/bare_metal.json").content_string)
    assert {"fstab", "hostname", "network/10-host.network"} <= {file["path"] for file in inputs["files"]}


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("path", ["/mnt/accounts", "/mnt/data", "/mnt/ledger", "/mnt/snapshots"])
def test_mount_point_is_baked(host: Host, path: str) -> None:
    assert host.file(path).is_directory


@pytest.mark.layer
@pytest.mark.booted
def test_the_host_program_is_there(host: Host) -> None:
    assert host.file("/usr/bin/qtrade-agent").mode == 0o755
    sources = host.check_output("cd /usr/lib/qtrade/agent && ls *.py").split()
    compiled = host.check_output("cd /usr/lib/qtrade/agent/__pycache__ && ls").split()
    assert "__main__.py" in sources
    assert sorted(name.split(".")[0] + ".py" for name in compiled) == sorted(sources)


@pytest.mark.host
def test_the_host_program_need_not_start_twice(host: Host) -> None:
    """The boot has left the command that confines jobs, for nobody but root."""
    noted = host.file("/run/qtrade/confined")
    assert (noted.user, noted.mode, noted.size > 0) == ("root", 0o600, True)


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("package", ["unattended-upgrades", "needrestart", "cloud-init", "systemd-timesyncd"])
def test_package_is_absent(host: Host, package: str) -> None:
    assert not host.package(package).is_installed


@pytest.mark.layer
@pytest.mark.parametrize(
    "check",
    [
        "/usr/sbin/chronyd -p -f /etc/chrony/chrony.conf", "/usr/sbin/logrotate --debug /etc/logrotate.conf",
        "systemd-analyze verify --man=no qtrade-boot-ok.service qtrade-host-key.service",
        "systemd-analyze cat-config tmpfiles.d/qtrade-host.conf",
    ],
)  # fmt: skip
def test_programs_accept_their_config(host: Host, check: str) -> None:
    done = host.run(check)
    assert done.succeeded, done.stderr


@pytest.mark.layer
def test_the_firmware_of_nics_is_where_the_kernel_looks(host: Host) -> None:
    """Intel's E810: the driver asks for this name (kernel's ice.rst, "Dynamic Device Personalization")."""
    if not host.package("firmware-intel-misc").is_installed:
        pytest.skip("the recipe's packages have no firmware-intel-misc: an Intel E810 would run in safe mode")
    assert int(host.check_output("stat -Lc %s /lib/firmware/intel/ice/ddp/ice.pkg")) > 1 << 19


@pytest.mark.layer
def test_a_package_that_brings_needrestart_or_docker_finds_its_limits(host: Host) -> None:
    assert "$nrconf{restart} = 'l';" in host.file("/etc/needrestart/conf.d/10-qtrade.conf").content_string
    daemon = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert (daemon["iptables"], daemon["bridge"]) == (False, "none")


@pytest.mark.layer
def test_docker_runs_where_it_is_installed_and_nobody_is_in_its_group(host: Host) -> None:
    is_wanted = host.package("docker.io").is_installed
    assert host.run("systemctl is-enabled docker.service").succeeded == is_wanted
    assert host.check_output("getent group docker") == "docker:x:403:"


@pytest.mark.layer
def test_the_program_that_drains_a_unit_parses(host: Host) -> None:
    program = "/usr/lib/qtrade/bare_metal/drain-unit"
    assert host.file(program).mode == 0o755
    assert host.run(f"sh -n {program}").succeeded


@pytest.mark.layer
def test_a_drain_ends_with_all_on_disk(host: Host) -> None:
    assert host.file("/usr/lib/qtrade/drain.d/90-sync").mode == 0o755
    assert host.check_output("ls /usr/lib/qtrade/drain.d | tail -n 1") == "90-sync"
    assert host.file("/usr/lib/qtrade/drain.d/90-sync").contains("^exec /usr/bin/sync$")


@pytest.mark.layer
def test_the_last_words_of_a_kernel_are_kept(host: Host) -> None:
    assert host.check_output("systemctl is-enabled systemd-pstore.service") == "enabled"


@pytest.mark.layer
def test_cores_are_none_or_bounded(host: Host) -> None:
    """No core is written unless systemd-coredump, with its limits, takes it."""
    is_bounded = host.package("systemd-coredump").is_installed
    limit = host.file("/etc/systemd/system.conf.d/10-qtrade.conf").contains("^DefaultLimitCORE=0")
    pattern = host.file("/etc/sysctl.d/60-qtrade-host.conf").contains("^kernel.core_pattern = |/bin/false")
    assert (limit, pattern) == (not is_bounded, not is_bounded)
    limits = host.file("/etc/systemd/coredump.conf.d/10-qtrade.conf").content_string
    assert {"ProcessSizeMax", "ExternalSizeMax", "MaxUse"} <= {line.split("=")[0] for line in limits.splitlines()}


@pytest.mark.booted
def test_no_process_leaves_a_core_where_it_runs(host: Host) -> None:
    """A validator's core would fill the disk that it stands on."""
    handler = "/usr/lib/systemd/systemd-coredump" if host.package("systemd-coredump").is_installed else "/bin/false"
    assert host.check_output("/usr/sbin/sysctl -n kernel.core_pattern").split()[0] == f"|{handler}"
    crash = "cd /tmp && sh -c 'ulimit -c unlimited; kill -SEGV \"$$\"'; ls -A /tmp | grep core; true"
    assert host.check_output(crash) == ""


@pytest.mark.booted
def test_tuning_holds_at_run_time(host: Host) -> None:
    """docs/host-tuning.md."""
    huge = baked(host, "bare_metal_transparent_hugepage")
    if huge != "kernel":
        assert f"[{huge}]" in host.file("/sys/kernel/mm/transparent_hugepage/enabled").content_string
    assert int(host.check_output("/usr/sbin/sysctl -n vm.swappiness")) == baked(host, "bare_metal_swappiness")
    assert set(CMDLINE) <= set(host.file("/proc/cmdline").content_string.split())
    assert host.check_output("ulimit -n") == "1000000"


@pytest.mark.booted
def test_no_swap_is_on_but_what_the_hosts_fstab_names(host: Host) -> None:
    used = {line.split()[0] for line in host.file("/proc/swaps").content_string.splitlines()[1:]}
    named = count_swaps(host.run("cat /etc/fstab").stdout)
    assert len(used) <= named, f"{used} are on, /etc/fstab names {named}"


@pytest.mark.booted
def test_every_core_that_can_be_governed_runs_at_full_speed(host: Host) -> None:
    """A virtual machine has no frequency to govern, and then its cores show none."""
    governors = host.run("cat /sys/devices/system/cpu/cpufreq/policy*/scaling_governor").stdout.split()
    if not governors:
        assert not host.file("/sys/devices/system/cpu/cpu0/cpufreq").exists
        pytest.skip("no frequency of this machine can be governed")
    assert set(governors) == {"performance"}


@pytest.mark.booted
def test_a_host_that_hangs_is_reset(host: Host) -> None:
    wanted = baked(host, "bare_metal_watchdog_s")
    shown = host.check_output("systemctl show -P RuntimeWatchdogUSec -P RebootWatchdogUSec").split("\n")
    assert [read_span(text) for text in shown] == [wanted, 600]
    devices = host.run("ls /sys/class/watchdog").stdout.split()
    if not devices:
        assert not host.file("/dev/watchdog").exists
        pytest.skip("this machine has no watchdog")
    # A board may have two timers; systemd serves one of them.
    states = host.check_output("cat /sys/class/watchdog/*/state").split()
    assert len(states) == len(devices)
    assert ("active" in states) == (wanted > 0)


def read_span(text: str) -> int:
    """Return the seconds of a time span as systemd shows it (`1min 30s`)."""
    units = {"h": 3600, "min": 60, "s": 1}
    if text == "0":
        return 0
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([a-z]+)", text))


@pytest.mark.booted
@pytest.mark.parametrize("module", ["cfg80211", "kvm", "pcspkr"])
def test_module_is_not_loaded(host: Host, module: str) -> None:
    assert not host.file(f"/sys/module/{module}/refcnt").exists


@pytest.mark.booted
def test_the_serial_console_offers_a_login(host: Host) -> None:
    assert host.service("serial-getty@ttyS0").is_running


@pytest.mark.booted
@pytest.mark.parametrize(("name", "value"), SYSCTLS.items())
def test_sysctl_holds_at_run_time(host: Host, name: str, value: int) -> None:
    assert int(host.check_output(f"/usr/sbin/sysctl -n {name}")) == value


@pytest.mark.booted
def test_system_runs_without_a_failed_unit(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.booted
@pytest.mark.parametrize("unit", ["ssh", "chrony", "systemd-networkd", "systemd-resolved", "systemd-journald"])
def test_service_runs(host: Host, unit: str) -> None:
    assert host.service(unit).is_running


@pytest.mark.booted
def test_the_size_of_a_log_is_looked_at_every_hour(host: Host) -> None:
    shown = host.check_output("systemctl show --property=TimersCalendar logrotate.timer").splitlines()
    assert [line.split(" ; ")[0] for line in shown] == ["TimersCalendar={ OnCalendar=*-*-* *:00:00"]


@pytest.mark.booted
def test_journal_is_kept(host: Host) -> None:
    assert host.file("/var/log/journal").is_directory


@pytest.mark.booted
def test_chrony_offers_nothing_to_the_network(host: Host) -> None:
    assert not host.socket("udp://0.0.0.0:123").is_listening
    assert not host.socket("udp://0.0.0.0:323").is_listening


@pytest.mark.host
def test_root_is_layered_and_mounts_are_there(host: Host) -> None:
    root = host.mount_point("/")
    assert (root.exists, root.filesystem) == (True, "overlay")
    fstab = host.file("/etc/fstab").content_string
    assert [path for path in mount_points(fstab) if not host.mount_point(path).exists] == []
    assert len(host.file("/proc/swaps").content_string.splitlines()) - 1 == count_swaps(fstab)
