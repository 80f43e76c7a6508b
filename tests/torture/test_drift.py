"""Drift on a lab host: twelve kinds planted as root would, all found, none besides on a clean host, and cured by --fix.

The image is 0.1.0 with one more layer, by which the operator may run commands as root: no image of ours lets anybody do that. Ordered, as
one process has to own the host.
"""

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash.lab import host as lab
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import LabRig, make_rig, qtrade, qtrade_json, read_manifest

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]

VERSION = "0.1.9"
PLANT = {
    "usr/lib/qtrade/plant": '#!/bin/sh\nexec /bin/sh -c "$1"\n',
    "etc/sudoers.d/99-plant": "operator ALL = (root) NOPASSWD: /usr/lib/qtrade/plant\n",
}
SYSTEM = "/run/qtrade/system"
HOST_KEY = "/run/qtrade/state/host/ssh_host_ed25519_key"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJescueKeyOfTheTestsOnlyNotARealOne stranger"
STATUS = "printf '\\nPackage: nmap\\nStatus: install ok unpacked\\nArchitecture: amd64\\nVersion: 7.95\\n' >>/var/lib/dpkg/status"
LISTEN = "import socket, time; s = socket.create_server(('0.0.0.0', 4444)); time.sleep(9999)"
# What is planted, in the words of the issue: the command, and what has to be found for it.
PLANTED = {
    "file edited": ("echo mine >>/etc/motd", ("file", "/etc/motd")),
    "package unpacked": (
        f"{STATUS}; mkdir -p /usr/share/nmap; echo x >/usr/share/nmap/nmap-services",
        ("package", "nmap:amd64"),
    ),
    "unit disabled": ("systemctl disable --now chrony.service", ("unit", "chrony.service")),
    "sysctl": ("sysctl -w vm.swappiness=60", ("sysctl", "vm.swappiness")),
    "firewall rule": ("iptables -I INPUT -p tcp --dport 4444 -j ACCEPT", ("firewall", "v4 filter INPUT")),
    "port opened": (
        f"setsid python3 -c {shlex.quote(LISTEN)} >/dev/null 2>&1 </dev/null &",
        ("port", "tcp 0.0.0.0:4444"),
    ),
    "user added": ("useradd --system mallory", ("user", "user mallory")),
    "authorized key added": (
        f"echo {shlex.quote(KEY)} >>/run/qtrade/state/config/current/ssh/authorized_keys/operator",
        ("ssh_key", "ssh/authorized_keys/operator"),
    ),
    "mount missing": (
        "systemctl stop 'postgresql@*' qtrade-client agave-validator; umount -l /mnt/data",
        ("mount", "/mnt/data"),
    ),
    "command line": (
        f"mount -o remount,rw {SYSTEM}; sed -i 's/ audit=0/ audit=1/' {SYSTEM}/images/*/entry.cfg; mount -o remount,ro {SYSTEM}",
        ("cmdline", "entry"),
    ),
    "time zone": ("timedatectl set-timezone Asia/Tokyo", ("time_zone", "/etc/localtime")),
    # The last: the pinned key is not the host's any more, once sshd has read the new one.
    "host key changed": (
        f"cp -a {HOST_KEY} /root/kept; cp -a {HOST_KEY}.pub /root/kept.pub; rm {HOST_KEY}*; ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}",
        ("host_key", "ssh_host_ed25519_key"),
    ),
}
# Every timer's service, as it would run in its time; what waits for a condition does so here too.
TIMERS = "systemctl list-timers --all --plain --no-legend | awk '{print $NF}' | xargs -n 1 systemctl start"


def plant(rig: LabRig, command: str, *, check: bool = True) -> str:
    """Run a command as root."""
    return rig.sh(f"sudo -n /usr/lib/qtrade/plant {shlex.quote(command)}", check=check)


def drift(rig: LabRig) -> tuple[int, set[tuple[str, str]], dict[str, Any]]:
    """Return exit code, kind and subject of each finding, and the host's report."""
    done = qtrade("drift", "--host", rig.name, "--json", check=False)
    assert done.returncode in (0, 2), done.stderr
    (report,) = json.loads(done.stdout)["hosts"]
    return done.returncode, {(one["kind"], one["subject"]) for one in report["findings"]}, report


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabRig]:
    """A BIOS host that runs the variant."""
    assert image_010
    folder = tmp_path_factory.mktemp("plant")
    publish_variant(settings, VERSION, top=extra_layer(settings, folder, PLANT))
    rig = make_rig(settings, "e2e-9", Firmware.BIOS)
    # A drift a few seconds after the other: whom the allow list names is not rate limited.
    document = read_manifest(rig)
    document["config"]["ufw_solana_ssh_sources"] = ["10.0.2.0/24"]
    rig.host.paths.manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    ledger = rig.ledger_sha256()
    assert qtrade_json("flash", "--host", rig.name, "--version", VERSION, "--yes")["state"] == "COMMITTED"
    yield rig
    assert rig.ledger_sha256() == ledger, "the ledger disk was changed"
    lab.down(settings, rig.name, wipe=True)


def test_a_clean_host_shows_none(rig: LabRig) -> None:
    code, found, report = drift(rig)
    assert (code, found) == (0, set()), report["findings"]


def test_verify_proves_it(rig: LabRig) -> None:
    checks = {one["name"]: one["state"] for one in qtrade_json("verify", "--host", rig.name)["checks"]}
    secrets = read_manifest(rig)["secrets"]
    assert checks.pop("monitoring") == ("proven" if "datadog_api_key" in secrets else "skipped")
    # No profile of development asks anything of the lab's machine.
    assert checks.pop("hardware") == "skipped"
    assert set(checks.values()) == {"proven"}


def test_a_day_and_every_timer_later_it_shows_none(rig: LabRig) -> None:
    plant(rig, "systemctl stop chrony; date -s '+24 hours' >/dev/null; systemctl start chrony")
    plant(rig, TIMERS, check=False)
    time.sleep(5)
    code, found, report = drift(rig)
    assert (code, found) == (0, set()), report["findings"]
    plant(rig, "systemctl stop chrony; date -s '-24 hours' >/dev/null; systemctl start chrony")


def test_twelve_kinds_are_found(rig: LabRig) -> None:
    found: set[tuple[str, str]] = set()
    for name, (command, wanted) in PLANTED.items():
        before = found
        plant(rig, command)
        code, found, report = drift(rig)
        assert code == 2
        assert wanted in found - before, (name, report["findings"])
    kinds = {kind for kind, _ in found}
    assert kinds == {wanted[0] for _, wanted in PLANTED.values()}


def test_fix_cures_what_it_says_and_leaves_the_rest_to_people(rig: LabRig) -> None:
    # Rebooted with the new key, it would be a stranger to us.
    assert qtrade("drift", "--host", rig.name, "--fix", "--yes", check=False).returncode == 7
    plant(rig, f"rm {HOST_KEY}*; cp -a /root/kept {HOST_KEY}; cp -a /root/kept.pub {HOST_KEY}.pub")
    done = qtrade("drift", "--host", rig.name, "--fix", "--yes", "--json", check=False)
    assert done.returncode == 2, done.stderr
    (report,) = json.loads(done.stdout)["hosts"]
    left = {(one["kind"], one["subject"]) for one in report["findings"]}
    # What lies on the system partition, no push and no reboot takes back; it is what booted.
    assert left == {("cmdline", "entry"), ("cmdline", "running")}
    assert rig.sh("date +%Z") == "UTC"


def test_what_a_look_takes_is_noted(rig: LabRig, logs: Path) -> None:
    """The guest is emulated, and shares its cores with what else the machine does."""
    took = [drift(rig)[2]["took_s"] for _ in range(5)]
    (logs / "drift.json").write_text(json.dumps({"seconds": took, "median": sorted(took)[2]}))
    print(f"a look: {sorted(took)[2]:.1f} s, of {took}")
