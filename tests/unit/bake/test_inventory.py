"""Layers as the host sees them: what hides what, where links lead, which packages are installed."""

import struct

import pytest

from bake.inventory.erofs import ErofsReader
from bake.inventory.packages import installed_packages
from bake.inventory.sources import is_copyright, is_kept, licence_names
from bake.inventory.tree import Tree
from qtrade.errors import TrustError
from tests.fakes.inventories import WHITEOUT, file, folder, layer, link, paragraph, status, tree

pytestmark = pytest.mark.unit


def test_the_topmost_copy_of_a_path_wins_and_names_its_layer() -> None:
    stack = tree({"etc": folder(), "etc/passwd": "one"}, {"etc": folder(), "etc/passwd": "two"})
    assert stack.text("etc/passwd") == "two"
    assert {path: placed.layer for path, placed in stack.nodes.items()} == {"etc": "l1", "etc/passwd": "l1"}


def test_a_whiteout_removes_a_path_and_what_is_below_it() -> None:
    stack = tree({"a": folder(), "a/b": folder(), "a/b/c": "", "a/bc": ""}, {"a": folder(), "a/b": WHITEOUT})
    assert sorted(stack.nodes) == ["a", "a/bc"]


def test_an_opaque_folder_hides_what_lower_layers_have_in_it_only() -> None:
    lower = {"a": folder(), "a/old": "", "a/sub": folder(), "a/sub/old": "", "ab": ""}
    stack = tree(lower, {"a": folder(opaque=True), "a/new": ""})
    assert sorted(stack.nodes) == ["a", "a/new", "ab"]


def test_a_file_in_the_place_of_a_folder_hides_the_folder() -> None:
    stack = tree({"a": folder(), "a/b": ""}, {"a": ""})
    assert sorted(stack.nodes) == ["a"]


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("etc/os-release", "usr/lib/os-release"),
        ("absolute", "usr/lib/os-release"),
        ("lib/os-release", "usr/lib/os-release"),
        ("usr/../usr/./lib/os-release", "usr/lib/os-release"),
        ("loop", None),
        ("dangling", None),
        ("nothing", None),
    ],
)
def test_links_lead_to_what_the_host_would_open(path: str, leads_to: str | None) -> None:
    stack = tree(
        {
            "usr": folder(),
            "usr/lib": folder(),
            "usr/lib/os-release": "ID=debian",
            "etc": folder(),
            "etc/os-release": link("../usr/lib/os-release"),
            "lib": link("usr/lib"),
            "absolute": link("/etc/os-release"),
            "loop": link("loop"),
            "dangling": link("gone"),
        }
    )
    assert stack.resolve(path) == leads_to
    assert stack.text(path) == ("ID=debian" if leads_to else None)


def test_packages_come_from_the_topmost_database_and_know_their_lowest_layer() -> None:
    base = status(paragraph("libc6", "2.41-12", "glibc"), paragraph("gone", "1"))
    above = status(
        paragraph("libc6", "2.41-12", "glibc"),
        paragraph("chrony", "4.6-3+b1", "chrony (4.6-3)"),
        paragraph("gone", "1", status="deinstall ok config-files"),
    )
    found = {item.name: item for item in installed_packages(tree(base, above))}
    assert sorted(found) == ["chrony", "libc6"]
    assert (found["libc6"].source, found["libc6"].source_version, found["libc6"].layer) == ("glibc", "2.41-12", "base")
    assert (found["chrony"].source, found["chrony"].source_version) == ("chrony", "4.6-3")
    assert (found["chrony"].version, found["chrony"].layer) == ("4.6-3+b1", "l1")


def test_a_package_that_is_held_or_wanted_gone_but_installed_is_installed() -> None:
    stack = tree(
        status(paragraph("a", "1", status="hold ok installed"), paragraph("b", "1", status="deinstall ok installed"))
    )
    assert [item.name for item in installed_packages(stack)] == ["a", "b"]


def test_a_signed_kernel_is_known_to_the_tracker_as_linux() -> None:
    kernel = paragraph("linux-image-6.12.1-amd64", "6.12.117-1", "linux-signed-amd64 (6.12.117+1)")
    (found,) = installed_packages(tree(status(kernel)))
    assert (found.source, found.source_version) == ("linux", "6.12.117-1")


def test_no_database_means_no_packages() -> None:
    assert installed_packages(tree({"etc": folder()})) == ()


def test_licences_are_found_through_the_linked_documentation_folder() -> None:
    base = layer(
        "base",
        {
            **status(paragraph("libgcc-s1", "14"), paragraph("plain", "1")),
            "usr/share/doc/gcc-14-base": folder(),
            "usr/share/doc/gcc-14-base/copyright": file("x"),
            "usr/share/doc/libgcc-s1": link("gcc-14-base"),
        },
        {"usr/share/doc/gcc-14-base/copyright": ("GPL-3+",)},
    )
    found = {item.name: item.licences for item in installed_packages(Tree([("base", base)]))}
    assert found == {"libgcc-s1": ("GPL-3+",), "plain": ()}


def test_licence_names_are_read_from_machine_readable_files_only() -> None:
    text = "License: GPL-2+ or Artistic\n"
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n"
    assert licence_names(f"{head}{text}License: BSD-3-clause\n The text.\n") == ("Artistic", "BSD-3-clause", "GPL-2+")
    assert licence_names(f"This package was debianized.\n{text}") == ()


def test_texts_are_kept_of_what_facts_come_from() -> None:
    assert is_kept("etc/systemd/system/a.service.d/10-x.conf", 10)
    assert not is_kept("etc/shadow", 10)
    assert not is_kept("var/lib/dpkg/status", 1 << 30)
    assert is_copyright("usr/share/doc/bash/copyright")
    assert not is_copyright("usr/share/doc/bash/examples/copyright")


def erofs(root: bytes) -> bytes:
    """Return a blob of 4 KiB blocks: the superblock's other fields are 0, so that the root stands at its very start."""
    return root.ljust(1024, b"\0") + struct.pack("<I", 0xE0F5E1E2) + bytes(8) + b"\x0c" + bytes(3000)


def inode(mode: int, size: int, block: int, *, layout: int = 0) -> bytes:
    """Return a compact inode."""
    return struct.pack("<HHHHIIIIHHI", layout << 1, 0, mode, 2, size, 0, block, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "too short"),
        (b"short", "too short"),
        (bytes(4096), "no EROFS magic"),
        (erofs(b""), "its root is no folder"),
        (erofs(inode(0o40755, 4096, 9)), "beyond its end"),
        (erofs(inode(0o40755, 12, 1, layout=3)), "data layout 3"),
    ],
)
def test_what_is_no_erofs_is_refused(tmp_path, content: bytes, why: str) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(content)
    with pytest.raises(TrustError, match="no EROFS blob") as caught:
        dict(ErofsReader(blob).walk())
    assert why in caught.value.details
