"""From what options say and a person answers to a manifest that passes the schema."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flash.discovery import FoundDisk, FoundNetwork, FoundNic, FoundPartition, Machine
from flash.discovery.choices import Given, ask_disks, ask_doors, ask_place, find_disk
from flash.discovery.first_host import HostDraft, Look, discover, draft_host, next_commands
from flash.discovery.manifest import Doors, identify, manifest_path, render_manifest, write_manifest
from qtrade.errors import BadInput, ConflictError, Refused, UsageError
from qtrade.manifest import Host, load_text
from qtrade.manifest.driver import Door
from qtrade.process import as_root
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1sUmcLbcNOyX6vNaAuLYHYKAQTZjMEPHw7nL9KIpLO"
OS = FoundDisk("nvme0n1", "MZQL2", "S1", "eui.01", 4 << 30, "0000:41:00.0")
LEDGER = FoundDisk("nvme1n1", "MZQL2", "S2", "eui.02", 8 << 30, "0000:42:00.0")
DATA = FoundDisk("sda", "WDC", "S3", "", 8 << 30, "0000:00:17.0")
BARE = FoundDisk("vda", size_bytes=1 << 30)
MACHINE = Machine(
    "ssh", (OS, LEDGER, DATA, BARE), (FoundNic("eno1", "02:00:00:00:00:01"), FoundNic("eno2", "02:00:00:00:00:02", is_up=True)), KEY, "uefi"
)  # fmt: skip


class Answers:
    """A person with answers by option; what nobody asked for stays, and a default is taken where there is no answer."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked = answers, []

    def __call__(self, question, *, option, default=None, among=()) -> str:
        name = option.removeprefix("--").split()[-1].split("=")[0].replace("-", "_")
        self.asked.append(name)
        if name in self.answers:
            return self.answers[name]
        if default is None:
            raise UsageError(f"{question}: nobody can be asked", resolution=f"add {option}")
        return default


def place(**given):
    fields = {"name": "rpc-1", "address": "192.0.2.10", "identity_file": Path("/keys/deploy"), **given}
    recipes = ("lab", "production")
    return ask_place(Given(**fields), Answers(), environments=("development", "production"), recipes=recipes)


def manifest(given: Given, ask=None, machine: Machine = MACHINE, **where) -> dict:
    ask = ask or Answers()
    host = place(**where)
    disks = ask_disks(given, ask, machine)
    doors = Doors(*ask_doors(given, ask, host.driver["kind"], machine))
    return yaml.safe_load(render_manifest(host, disks, doors, machine))


def test_defaults_protect_every_disk_that_nobody_named() -> None:
    assert manifest(Given(os_disk="nvme0n1")) == {
        "schema_version": 1,
        "name": "rpc-1",
        "environment": "development",
        "role": "rpc",
        "recipe": "lab",
        "address": "192.0.2.10",
        "ssh": {"identity_file": "/keys/deploy"},
        "driver": {"kind": "ssh"},
        "doors": ["in_place", "rescue"],
        "rescue": {"user": "root", "port": 22, "host_key": KEY},
        "os_disk": {"serial": "S1", "wwid": "eui.01", "size_bytes": 4 << 30},
        "protected_disks": [{"serial": "S2", "wwid": "eui.02"}, {"serial": "S3"}],
        "config": {"bare_metal_mac": "02:00:00:00:00:02", "bare_metal_mounts": []},
    }


def test_there_is_no_default_for_the_os_disk() -> None:
    with pytest.raises(UsageError, match="A flash overwrites it") as caught:
        manifest(Given())
    assert caught.value.resolution == "add --os-disk"


def test_a_person_says_which_disk_is_what_by_name_serial_or_wwid() -> None:
    ask = Answers(os_disk="S2", data="sda:/mnt/data", protect="eui.01")
    made = manifest(Given(), ask)
    assert made["os_disk"] == {"serial": "S2", "wwid": "eui.02", "size_bytes": 8 << 30}
    assert made["data_disks"] == [{"serial": "S3", "mount": "/mnt/data"}]
    assert made["protected_disks"] == [{"serial": "S1", "wwid": "eui.01"}]
    assert ask.asked == ["os_disk", "data", "protect", "netboot_url"]


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"os_disk": "nvme9n1"}, BadInput, "0 disks are called 'nvme9n1'"),
        ({"os_disk": "S1", "data": ("nvme0n1:/mnt/data",)}, UsageError, "cannot be the OS disk and another one"),
        ({"os_disk": "S1", "data": ("sda",)}, UsageError, "is no data disk"),
        ({"os_disk": "S1", "protected": ("vda",)}, BadInput, "vda has neither serial nor WWID"),
        ({"os_disk": "vda"}, BadInput, "vda cannot be told from other disks"),
        ({"os_disk": "S1", "doors": ("pxe",)}, UsageError, "does not open door pxe"),
        ({"os_disk": "S1", "doors": ("window",)}, UsageError, "there is no door window"),
    ],
)
def test_what_cannot_be_is_refused(given, error, told) -> None:
    with pytest.raises(error, match=told):
        manifest(Given(**given))


def test_config_is_as_the_machine_is_set_up_now(tmp_path) -> None:
    key = tmp_path / "deploy"
    key.with_name("deploy.pub").write_text("ssh-ed25519 AAAA deploy\n")
    data = replace(DATA, partitions=(FoundPartition("sda1", filesystem="ext4", uuid="beef"),))
    network = FoundNetwork("02:00:00:00:00:01", ("192.0.2.10/24",), ("192.0.2.1",), ("192.0.2.53",))
    machine = replace(MACHINE, disks=(OS, LEDGER, data), network=network)
    made = manifest(Given(os_disk="S1", data=("sda:/mnt/data",)), machine=machine, identity_file=key)
    assert made["config"] == {
        "bare_metal_mac": "02:00:00:00:00:01",
        "bare_metal_addresses": ["192.0.2.10/24"],
        "bare_metal_gateways": ["192.0.2.1"],
        "bare_metal_dns": ["192.0.2.53"],
        "bare_metal_mounts": [{"what": "UUID=beef", "where": "/mnt/data", "type": "ext4"}],
        "bare_metal_ssh_keys": {
            "deploy": ["ssh-ed25519 AAAA deploy"],
            "operator": ["ssh-ed25519 AAAA deploy"],
            "readonly": [],
        },
    }


def test_a_machine_that_shows_no_disk_is_no_question() -> None:
    answers = Answers(os_disk="anything")
    with pytest.raises(Refused, match="redfish shows no disk") as refused:
        ask_disks(Given(), answers, Machine("redfish", (), ()))
    assert (answers.asked, "--look-over ssh" in refused.value.resolution) == ([], True)


def test_disks_that_look_the_same_are_told_apart_or_refused() -> None:
    twin = FoundDisk("sdb", "QEMU", "SAME", "", 8 << 30, "0000:00:05.0")
    other = FoundDisk("sdc", "QEMU", "SAME", "", 8 << 30, "0000:00:06.0")
    assert identify(twin, Machine("ssh", (twin, other), ())) == {
        "serial": "SAME", "size_bytes": 8 << 30, "pci_path": "0000:00:05.0",
    }  # fmt: skip
    same = FoundDisk("sdd", "QEMU", "SAME", "", 8 << 30, "0000:00:05.0")
    with pytest.raises(BadInput, match="sdb cannot be told from other disks"):
        identify(twin, Machine("ssh", (twin, same), ()))
    with pytest.raises(BadInput, match="2 disks are called 'SAME'"):
        find_disk(Machine("ssh", (twin, other), ()), "SAME")


def test_a_bmc_gets_the_doors_that_need_a_netboot_server_once_there_is_one() -> None:
    driver = {"url": "https://192.0.2.20", "username": "admin", "password_file": "/keys/bmc"}
    machine = Machine("redfish", (OS, LEDGER), MACHINE.nics, system="/redfish/v1/Systems/1")
    given = Given(os_disk="S1", netboot_url="http://192.0.2.1:8080")
    made = manifest(given, machine=machine, driver="redfish", driver_fields=driver)
    assert made["driver"] == {"kind": "redfish", **driver, "system": "/redfish/v1/Systems/1"}
    assert made["doors"] == ["in_place", "virtual_media", "kexec"]
    # Of several cards, the one with a link.
    assert made["netboot"] == {
        "listen": "0.0.0.0", "port": 8080, "url": "http://192.0.2.1:8080", "mac": "02:00:00:00:00:02",
    }  # fmt: skip
    assert "rescue" not in made
    assert manifest(Given(os_disk="S1"), machine=machine, driver="redfish", driver_fields=driver)["doors"] == [
        "in_place"
    ]


def test_fields_of_a_driver_are_asked_for_where_they_have_no_default() -> None:
    ask = Answers(server_id="77", token="env:CHERRY_TOKEN")
    given = Given("rpc-1", "production", "rpc", "production", "192.0.2.10", "cherry", identity_file=Path("/k"))
    made = ask_place(given, ask, environments=("production",), recipes=("production",))
    assert made.driver == {"kind": "cherry", "server_id": 77, "token": "env:CHERRY_TOKEN"}
    assert ask.asked == ["server_id", "token", "ssh_user"]
    with pytest.raises(BadInput, match="driver cherry has no field server"):
        place(driver="cherry", driver_fields={"server": "1"})


def test_an_api_that_erases_all_makes_the_data_disposable() -> None:
    fields = {"server_id": "sv", "token": "env:T"}
    given = Given(
        os_disk="S1", protected=(), doors=("in_place", "provider_reinstall"), netboot_url="http://192.0.2.1:80"
    )
    made = manifest(given, driver="latitude", driver_fields=fields)
    assert made["data_policy"] == "disposable"


@pytest.mark.parametrize("name", ["Rpc-1", "rpc 1", "../x", ""])
def test_a_name_that_is_none(name) -> None:
    with pytest.raises((BadInput, UsageError)):
        place(name=name)


@pytest.mark.parametrize(
    ("option", "value"), [("environment", "moon"), ("role", "cook"), ("recipe", "soup"), ("driver", "horse")]
)
def test_an_option_that_is_none_of_those_names_them(option, value) -> None:
    with pytest.raises(UsageError, match=f"{value} is none of them"):
        place(**{option: value})


def test_the_manifest_says_which_disk_is_meant(tmp_path) -> None:
    host, ask = place(), Answers()
    disks = ask_disks(Given(os_disk="S1"), ask, MACHINE)
    text = render_manifest(host, disks, Doors((Door.IN_PLACE, Door.RESCUE)), MACHINE)
    assert f"# overwritten by a flash: {OS.describe()}\nos_disk:\n" in text
    assert f"# never written to:\n#   {LEDGER.describe()}\n#   {DATA.describe()}\nprotected_disks:\n" in text
    assert load_text(Host, text, source="it").os_disk.serial == "S1"


def test_a_manifest_is_never_overwritten(tmp_path) -> None:
    settings = make_settings(tmp_path)
    write_project(settings)
    with pytest.raises(ConflictError, match="never overwritten"):
        manifest_path(settings, "rpc-1")
    path = manifest_path(settings, "rpc-2")
    write_manifest(path, "mine")
    with pytest.raises(ConflictError, match="written by somebody else meanwhile"):
        write_manifest(path, "theirs")
    assert path.read_text() == "mine"
    # Known before anybody is asked anything.
    with pytest.raises(ConflictError):
        draft_host(settings, Given(name="rpc-1"), Look(), Answers(), print)


def test_nobody_looks_where_there_is_no_way(tmp_path) -> None:
    with pytest.raises(BadInput, match="there is no key"):
        discover(place(), Look(), Answers(), print)
    with pytest.raises(UsageError, match="nobody can look over smell"):
        discover(place(), Look("smell"), Answers(), print)
    with pytest.raises(UsageError, match="driver ssh is no BMC"):
        discover(place(), Look("redfish"), Answers(), print)


def test_a_host_key_that_nobody_vouches_for_is_not_trusted(tmp_path, monkeypatch) -> None:
    identity = tmp_path / "deploy"
    identity.touch()
    monkeypatch.setattr("flash.discovery.first_host.show_host_key", lambda _: (KEY, "SHA256:abc"))
    said: list[str] = []
    ask = Answers()
    ask.answers["SHA256:abc"] = "no"
    with pytest.raises(Refused, match="not trusted"):
        discover(place(identity_file=identity), Look(), ask, said.append)
    assert said == ["192.0.2.10 shows the SSH host key SHA256:abc"]


def test_what_comes_next_depends_on_what_is_there(tmp_path) -> None:
    draft = HostDraft("rpc-1", tmp_path / "x", "", MACHINE, (Door.IN_PLACE,))
    assert next_commands(draft, has_keys=False, has_images=False) == (
        "qtrade keys init",
        "qtrade doctor",
        as_root("qtrade bake --version 0.1.0"),
        "qtrade flash --host rpc-1 --dry-run",
        "qtrade flash --host rpc-1",
    )
    assert next_commands(draft, has_keys=True, has_images=True)[0] == "qtrade doctor"
