"""The upper directory as the kernel's overlayfs writes it: what a person's commands leave there, and what the agent makes of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flash.agent.lower import Lower
from flash.agent.packages import read_changes as read_package_changes
from flash.agent.upper import read_changes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

# As the initramfs mounts it (bake/initramfs/os/scripts/qtrade).
OPTIONS = "xino=off,metacopy=off,redirect_dir=off,index=off"


@dataclass
class Root:
    """A root of two layers, mounted."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "root"

    def sh(self, command: str) -> None:
        subprocess.run(["sh", "-euc", command], cwd=self.path, check=True)

    def changes(self) -> dict[str, str]:
        found = read_changes(self.folder / "upper", self.lower)
        assert found["total"] == len(found["changes"])
        return {one["path"]: one["change"] for one in found["changes"]}

    @property
    def lower(self) -> Lower:
        return Lower.mounted(self.folder / "layers")


@pytest.fixture
def root(tmp_path) -> Iterator[Root]:
    made = Root(tmp_path)
    for name in ("layers/10/etc/app/deep", "layers/11/etc", "upper", "work", "root"):
        (tmp_path / name).mkdir(parents=True)
    for path, text in {
        "10/etc/one": "1",
        "10/etc/two": "2",
        "10/etc/app/deep/file": "deep",
        "11/etc/two": "above",
    }.items():
        (tmp_path / "layers" / path).write_text(text)
    (tmp_path / "layers/11/etc/link").symlink_to("one")
    where = f"lowerdir={tmp_path}/layers/11:{tmp_path}/layers/10,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"{where},{OPTIONS}", made.path], check=True)
    try:
        yield made
    finally:
        subprocess.run(["umount", made.path], check=True)
        # overlayfs leaves a folder in `work` that nobody may search.
        shutil.rmtree(tmp_path / "work", ignore_errors=True)


def test_a_root_that_nobody_wrote_to_has_none(root) -> None:
    assert root.changes() == {}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("echo more >>etc/one", {"etc/one": "changed"}),
        ("echo new >etc/new", {"etc/new": "added"}),
        ("rm etc/one", {"etc/one": "deleted"}),
        ("rm -r etc/app", {"etc/app": "deleted"}),
        ("rm -r etc/app; mkdir etc/app; echo x >etc/app/mine", {"etc/app/mine": "added", "etc/app/deep": "deleted"}),
        ("chmod 600 etc/one", {"etc/one": "changed"}),
        ("chmod 700 etc/app", {"etc/app": "changed"}),
        ("chown 1000 etc/one", {"etc/one": "changed"}),
        ("ln -sfn two etc/link", {"etc/link": "changed"}),
        ("mv etc/one etc/uno", {"etc/one": "deleted", "etc/uno": "added"}),
        ("mkdir etc/empty", {"etc/empty": "added"}),
        ("mkfifo etc/pipe", {"etc/pipe": "added"}),
        ("printf above >etc/other; mv etc/other etc/two", {}),
        ("printf 2 >etc/two", {"etc/two": "changed"}),
        ("touch etc/one", {}),
        ("echo x >etc/app/deep/file; printf deep >etc/app/deep/file", {}),
        ("echo x >etc/new; rm etc/new", {}),
        ("rm etc/one; printf 1 >etc/one", {}),
        ("setcap cap_net_raw+ep etc/one || setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 etc/one",
         {"etc/one": "changed"}),
    ],
)  # fmt: skip
def test_what_differs_is_told_and_what_is_the_same_again_is_not(root, command, found) -> None:
    if "setcap" in command and not (shutil.which("setcap") or shutil.which("setfattr")):
        value = bytes.fromhex("0100000200200000000000000000000000000000")
        os.setxattr(root.path / "etc/one", "security.capability", value)
    else:
        root.sh(command)
    assert root.changes() == found


def test_many_changes_are_counted_and_the_first_are_listed(root) -> None:
    root.sh("for n in $(seq 600); do : >etc/many-$n; done")
    found = read_changes(root.folder / "upper", root.lower)
    assert (found["total"], len(found["changes"])) == (600, 500)


def test_the_image_is_read_below_what_was_written(root) -> None:
    root.sh("rm etc/two; rm -r etc/app; ln -sfn nowhere etc/link")
    assert root.lower.read("etc/two") == "above"
    assert root.lower.read("etc/link") == "1"
    assert root.lower.names("etc") == ["app", "link", "one", "two"]
    assert root.lower.find("etc/none") is None


def test_a_package_that_was_unpacked_is_named(root) -> None:
    before = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"
    database = root.folder / "layers/10/var/lib/dpkg/status"
    database.parent.mkdir(parents=True)
    database.write_text(before)
    # A lower layer must not change under an overlay, so this one is read without it.
    live = root.folder / "live/var/lib/dpkg/status"
    live.parent.mkdir(parents=True)
    live.write_text(
        f"{before.replace('1', '2')}\nPackage: nmap\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 7\n"
    )
    assert read_package_changes(root.folder / "live", root.lower) == [
        {"package": "a:amd64", "was": "1 installed", "now": "2 installed"},
        {"package": "nmap:amd64", "was": "", "now": "7 unpacked"},
    ]
