"""Exports of the smallest recipe: the same bytes each time, made without any privilege, and whole."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bake.output import DiskLayout, Exported, Kind, export
from bake.output.ext4 import Entry, Ext4, make_ext4, read_free
from flash.agent import disks, ondisk, partition
from flash.agent.errors import AgentError
from flash.agent.job import Layout
from qtrade import process
from qtrade.errors import ToolError, TrustError
from qtrade.manifest import Image
from qtrade.settings import load_settings
from qtrade.toolsroot import ToolsRoot, open_tools
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"
LAYOUT = DiskLayout(system_mib=1024, state_mib=256)
OPTIONS = ("--system-mib", "1024", "--state-mib", "256")
KINDS = tuple(Kind)
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--")
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    made = make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))
    made.bake("1.0")
    return made


@pytest.fixture(scope="module")
def tools(tiny) -> ToolsRoot:
    return open_tools(tiny.settings)


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory) -> Exported:
    to = tmp_path_factory.mktemp("first")
    return export(tiny.settings, tiny.store, "tiny", "1.0", KINDS, to, tiny.reporter, layout=LAYOUT)


@pytest.fixture(scope="module")
def raw(exported, tools) -> Path:
    """The raw disk, unpacked."""
    path = exported.folder / "unpacked.raw"
    tools.run("zstd", "-q", "-d", exported.folder / "tiny_1.0.raw.zst", "-o", path)
    return path


def partitions(tools: ToolsRoot, disk: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads(tools.run("sfdisk", "--json", disk).stdout)["partitiontable"]["partitions"]
    return {row["name"]: row for row in rows}


def cut(disk: Path, row: dict[str, Any], to: Path) -> Path:
    """Copy one partition to a file."""
    with disk.open("rb") as source, to.open("wb") as sink:
        source.seek(row["start"] * 512)
        left = row["size"] * 512
        while left:
            chunk = source.read(min(left, MIB))
            left -= len(chunk)
            if any(chunk):
                sink.write(chunk)
            else:
                sink.seek(len(chunk), os.SEEK_CUR)
        sink.truncate(row["size"] * 512)
    return to


def test_second_export_has_the_same_bytes(tiny, exported, tmp_path) -> None:
    # Another second on the clock, and blobs with holes: neither may show.
    store = shutil.copytree(tiny.settings.store, tmp_path / "store")
    for blob in (store / "blobs").iterdir():
        process.run(["fallocate", "--dig-holes", blob])
    time.sleep(1.1)
    elsewhere = type(tiny.store)(store)
    again = export(tiny.settings, elsewhere, "tiny", "1.0", KINDS, tmp_path / "to", tiny.reporter, layout=LAYOUT)
    assert again.files == exported.files
    assert {file.name for file in again.files} >= {"tiny_1.0.raw.zst", "tiny_1.0.raw.bmap", "tiny_1.0.qcow2"}


def test_export_needs_no_capability(tiny, exported, tmp_path) -> None:
    """Without any capability nothing can be mounted and no loop device be set up, by root neither."""
    (tmp_path / "here").mkdir()
    refused = subprocess.run(
        [*POWERLESS, "mount", "-t", "tmpfs", "tmpfs", tmp_path / "here"], capture_output=True, check=False
    )
    assert refused.returncode != 0, "the test's own cage is open"
    options = [option for kind in KINDS for option in ("--output", kind)]
    argv = [*POWERLESS, QTRADE, "images", "export", "1.0", "--recipe", "tiny", *options, *OPTIONS]
    done = subprocess.run(
        [*argv, "--to", tmp_path / "to", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=tiny.environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = {file["name"]: file["sha256"] for file in json.loads(done.stdout)["files"]}
    assert found == {file.name: file.sha256 for file in exported.files}


def test_checksums_are_signed_and_hold(tiny, exported, tmp_path) -> None:
    folder = exported.folder
    listed = (folder / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in listed] == [file.name for file in exported.files]
    process.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder)
    public = tmp_path / "build.pem"
    key = tiny.settings.keys_dir / "build.key"
    process.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public])
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", "SHA256SUMS"]
    process.run([*verify, "-sigfile", "SHA256SUMS.sig"], cwd=folder)


def test_disk_has_the_layout_and_the_blobs(tiny, tools, raw, tmp_path) -> None:
    image = Image.model_validate_json(tiny.store.read("tiny", "1.0").image_text)
    rows = partitions(tools, raw)
    assert list(rows) == ["bios_boot", "qtrade-esp", "qtrade-system", "qtrade-state"]
    system = cut(raw, rows["qtrade-system"], tmp_path / "system")
    tools.run("e2fsck", "-f", "-n", system)
    tools.run("e2fsck", "-f", "-n", cut(raw, rows["qtrade-state"], tmp_path / "state"))
    for layer in image.layers:
        tools.run("debugfs", "-R", f"dump /layers/{layer.digest}.erofs {tmp_path}/blob", system)
        assert (tmp_path / "blob").read_bytes() == tiny.store.open_blob(layer.digest).read_bytes()
    entry = tools.run("debugfs", "-R", f"cat /images/{image.id}/entry.cfg", system).stdout
    for name in ("system", "state"):
        assert f"qtrade.{name}=PARTUUID={rows[f'qtrade-{name}']['uuid'].lower()}" in entry
    status = tools.run("debugfs", "-R", f"stat /boot/{image.kernel.digest}", system).stdout
    assert "User:     0   Group:     0" in status
    assert "Mode:  0644" in status
    with raw.open("rb") as disk:
        first = disk.read(512)
    assert first[510:] == b"\x55\xaa"
    assert int.from_bytes(first[0x5C:0x64], "little") == rows["bios_boot"]["start"]


def test_blocks_outside_the_map_do_not_matter(tools, exported, raw, tmp_path) -> None:
    """On a disk full of other people's bytes, the mapped blocks alone make sound filesystems with the same files."""
    root = ET.fromstring((exported.folder / "tiny_1.0.raw.bmap").read_text())
    size = int(root.findtext("ImageSize") or 0)
    assert size == raw.stat().st_size
    used = tmp_path / "used.raw"
    with used.open("wb") as disk:
        for _ in range(size // MIB):
            disk.write(b"\xa5" * MIB)
    written = 0
    with raw.open("rb") as source, used.open("r+b") as disk:
        for row in root.iter("Range"):
            first, _, last = (row.text or "").strip().partition("-")
            start, count = int(first), int(last or first) - int(first) + 1
            source.seek(start * 4096)
            data = source.read(count * 4096)
            assert hashlib.sha256(data).hexdigest() == row.attrib["chksum"]
            disk.seek(start * 4096)
            disk.write(data)
            written += count
    assert written < size // 4096 // 2, "the map spares nothing"
    rows = partitions(tools, used)
    for name in ("qtrade-system", "qtrade-state"):
        tools.run("e2fsck", "-f", "-n", cut(used, rows[name], tmp_path / "part"))
    with raw.open("rb") as one, used.open("rb") as other:
        start = rows["qtrade-esp"]["start"] * 512
        one.seek(start)
        other.seek(start)
        assert one.read(128 * MIB) == other.read(128 * MIB)


def test_filesystem_holds_its_entries_with_owner_mode_and_time(tools, tmp_path) -> None:
    text = tmp_path / "text"
    text.write_text("words\n")
    entries = [
        Entry('etc/a name with "marks"', text, mode=0o640, uid=420, gid=421),
        Entry("etc/link", target="../etc/else"),
    ]
    uuid = "11111111-2222-4333-8444-555555555555"
    path = tmp_path / "fs"
    make_ext4(
        tools, path, Ext4(("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"), 16 * MIB, uuid, 1763856000), entries
    )
    listing = tools.run("debugfs", "-R", "ls -l /etc", path, env={"TZ": "UTC"}).stdout
    assert [line.split()[1:6] for line in listing.splitlines() if "marks" in line] == [
        ["100640", "(1)", "420", "421", "6"]
    ]
    assert listing.count("23-Nov-2025 00:00") == 4
    assert tools.run("debugfs", "-R", "stat /etc/link", path).stdout.count('Fast link dest: "../etc/else"') == 1
    assert sum(len(free) for free in read_free(tools, path)) > 2000


def test_failed_write_into_a_filesystem_is_an_error(tools, tmp_path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(8 * MIB))
    kind = Ext4(("mke2fs", "-q", "-F", "-t", "ext4"), 4 * MIB, "11111111-2222-4333-8444-555555555555", 1763856000)
    with pytest.raises(ToolError, match="debugfs"):
        make_ext4(tools, tmp_path / "fs", kind, [Entry("big", big)])


def test_bmaptool_takes_the_map_and_checks_by_it(tools, exported, raw, tmp_path) -> None:
    bmap = exported.folder / "tiny_1.0.raw.bmap"
    copy = tmp_path / "copy.raw"
    process.run(["bmaptool", "copy", "--bmap", bmap, raw, copy])
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, copy)
    with copy.open("r+b") as disk:
        disk.seek(partitions(tools, copy)["qtrade-esp"]["start"] * 512 + 3)
        disk.write(b"spoilt")
    refused = process.run(["bmaptool", "copy", "--bmap", bmap, copy, tmp_path / "other.raw"], check=False)
    assert refused.returncode != 0
    assert "checksum" in refused.stderr + refused.stdout


def test_qcow2_is_the_same_disk(tools, exported, raw) -> None:
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, exported.folder / "tiny_1.0.qcow2")


def test_netboot_set_has_what_the_installer_fetches(tiny, exported) -> None:
    image = Image.model_validate_json(tiny.store.read("tiny", "1.0").image_text)
    folder = exported.folder / "tiny_1.0.netboot"
    assert {path.name for path in (folder / "blobs").iterdir()} == set(image.blobs())
    assert (folder / "list").read_text() == image.list_text()
    assert (folder / "boot.ipxe").read_text().startswith("#!ipxe\n")
    assert (folder / "initrd").read_bytes() == tiny.store.open_blob(image.installer.digest).read_bytes()


def test_altered_blob_is_refused_and_leaves_nothing(tiny, exported, tmp_path) -> None:
    store = shutil.copytree(tiny.settings.store, tmp_path / "store")
    image = Image.model_validate_json(tiny.store.read("tiny", "1.0").image_text)
    blob = store / "blobs" / image.layers[-1].digest
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    to = tmp_path / "to"
    with pytest.raises(TrustError, match=image.layers[-1].digest):
        export(tiny.settings, type(tiny.store)(store), "tiny", "1.0", KINDS, to, tiny.reporter, layout=LAYOUT)
    assert list(to.iterdir()) == []


def test_installer_takes_a_disk_over_that_is_bigger_than_the_image(tools, raw, tmp_path, monkeypatch) -> None:
    bigger = tmp_path / "bigger.raw"
    process.run(["cp", "--sparse=always", raw, bigger])
    os.truncate(bigger, raw.stat().st_size + 64 * MIB)
    monkeypatch.setattr(partition, "run", tools.run)
    with bigger.open("rb") as file:
        gpt = ondisk.read_gpt(file)
    disk = disks.Disk(
        name="x", path=bigger, serial="", wwid="", pci_path="", model="", size_bytes=bigger.stat().st_size,
        sector_bytes=512, partitions=(), holders=(), gpt=gpt, fs_uuids=(), members=(),
    )  # fmt: skip
    with pytest.raises(AgentError, match="does not read back"):
        partition.check_tables(disk)
    before = partitions(tools, bigger)
    partition.mend_table(disk)
    partition.check_tables(disk)
    assert partitions(tools, bigger) == before
    layout = Layout(esp_mib=LAYOUT.esp_mib, system_mib=LAYOUT.system_mib)
    assert partition.check_layout(disk, layout, 0), "the layout is not the one that a host's manifest asks for"
