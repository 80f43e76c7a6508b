"""The semantic difference of two images, from inventories made by hand."""

import struct
from typing import Any

import pytest

from bake.cve.findings import Finding
from bake.diff import Cves, diff_images, render_diff
from bake.diff.changes import Change, Changes, compare, compare_lines
from bake.diff.compare import ImageDiff
from qtrade.manifest.image import ImageBlob, ImageComponent
from tests.fakes.examples import sha
from tests.fakes.inventories import file, inventory, link, paragraph, status

pytestmark = pytest.mark.unit

PING = struct.pack("<IIIII", 2 << 24 | 1, 1 << 13, 0, 0, 0).hex()
RULE = "-A ufw-user-input -p tcp --dport {} -j ACCEPT"
BASE = {
    **status(paragraph("openssl", "3.5.1-1"), paragraph("gone", "1")),
    "etc/passwd": "root:x:0:0::/root:/bin/bash\nold:x:7:7:::\n",
    "etc/group": "root:x:0:\n",
    "usr/bin/su": file("su", mode=0o4755),
    "usr/lib/systemd/system/a.service": "a",
    "usr/lib/systemd/system/b.service": "b",
}
APP_BEFORE = {
    "etc/sysctl.d/50-a.conf": "vm.swappiness=60\nkernel.panic=10\n",
    "etc/ufw/user.rules": f"{RULE.format(22)}\n{RULE.format(80)}\n",
    "etc/systemd/system/multi-user.target.wants/a.service": link("/usr/lib/systemd/system/a.service"),
    "opt/app/data": "one",
    "opt/app/removed": "x",
    "opt/app/moved": "same",
}
APP_AFTER = {
    **status(paragraph("openssl", "3.5.2-1"), paragraph("new", "2")),
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nsol:x:420:420:::\n",
    "etc/group": "root:x:0:\nsol:x:420:\n",
    "usr/bin/ping": file("ping", mode=0o755, capability=PING),
    "usr/bin/su": file("su", mode=0o755),
    "etc/sysctl.d/50-a.conf": "vm.swappiness=1\nnet.core.rmem_max=1\n",
    "etc/ufw/user.rules": f"{RULE.format(80)}\n{RULE.format(22)}\n### tuple ### allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in\n",
    "etc/systemd/system/multi-user.target.wants/b.service": link("/usr/lib/systemd/system/b.service"),
    "etc/systemd/system/a.service": link("/dev/null"),
    "usr/lib/systemd/system/b.service": "b, changed",
    "opt/app/data": file("one", mode=0o600),
    "opt/app/moved": "same",
    "opt/app/added": "y",
}


def make_diff(**changes: Any) -> ImageDiff:
    def component(version: str) -> ImageComponent:
        return ImageComponent(name="agave", version=version, sha256=sha(version), standin=version == "2")

    before = inventory(BASE, APP_BEFORE, cmdline="quiet panic=10", components=(component("1"),), version="0.1.0")
    after = inventory(
        BASE,
        APP_AFTER,
        cmdline="panic=10 audit=0",
        components=(component("2"),),
        version="0.2.0",
        kernel=ImageBlob(digest=sha("k2"), size=9),
        kernel_release="6.12.2",
    )
    return diff_images(before, after, **changes)


def names(items: tuple[Change, ...]) -> list[str]:
    return [item.name for item in items]


def test_packages_and_components_show_versions() -> None:
    diff = make_diff()
    assert names(diff.packages.added) == ["new:amd64"]
    assert names(diff.packages.removed) == ["gone:amd64"]
    assert diff.packages.changed == (Change(name="openssl:amd64", before="3.5.1-1", after="3.5.2-1"),)
    (agave,) = diff.components.changed
    assert agave.after == f"2 {sha('2')[:12]} stand-in"


def test_kernel_and_command_line() -> None:
    diff = make_diff()
    assert names(diff.kernel.changed) == ["kernel", "release"]
    assert (names(diff.cmdline.added), names(diff.cmdline.removed)) == (["audit=0"], ["quiet"])


def test_units_that_start_no_more_are_told_from_units_whose_files_changed() -> None:
    units = make_diff().units
    assert units.enabled == ("multi-user.target.wants/b.service",)
    assert units.disabled == ("multi-user.target.wants/a.service",)
    assert (units.masked, units.unmasked) == (("a.service",), ())
    assert (names(units.files.changed), names(units.files.removed)) == (["b.service"], ["a.service"])


def test_sysctls_are_compared_by_key() -> None:
    sysctls = make_diff().sysctls
    assert names(sysctls.added) == ["net.core.rmem_max"]
    assert names(sysctls.removed) == ["kernel.panic"]
    assert sysctls.changed == (Change(name="vm.swappiness", before="60", after="1"),)


def test_firewall_rules_are_compared_in_their_order() -> None:
    diff = make_diff()
    (rules,) = diff.firewall
    assert rules.file == "etc/ufw/user.rules"
    assert rules.removed == rules.added
    assert len(rules.added) == 1
    assert diff.ports.added == (
        Change(name="443/tcp etc/ufw/user.rules", after="firewall allow from 0.0.0.0/0 to 0.0.0.0/0"),
    )


def test_privileges_users_and_groups() -> None:
    diff = make_diff()
    assert names(diff.privileged.removed) == ["usr/bin/su"]
    assert diff.privileged.added == (Change(name="usr/bin/ping", after="0:0 0755 cap_net_raw=ep"),)
    assert (names(diff.users.added), names(diff.users.removed), names(diff.users.changed)) == (
        ["sol"],
        ["old"],
        ["root"],
    )
    assert names(diff.groups.added) == ["sol"]


def test_files_stand_with_the_layer_that_changed_them() -> None:
    (layer,) = make_diff().files
    assert layer.role == "l1"
    assert "opt/app/added" in names(layer.changes.added)
    assert "opt/app/removed" in names(layer.changes.removed)
    assert {"opt/app/data", "usr/bin/su"} <= set(names(layer.changes.changed))
    assert "opt/app/moved" not in [item.name for kind in layer.changes for item in kind[1]]


def test_a_copy_that_an_upper_layer_dropped_is_its_change_not_the_lower_layers() -> None:
    before = inventory({"etc/a": "low"}, {"etc/a": "high", "etc/b": ""})
    after = inventory({"etc/a": "low"}, {"etc/b": ""})
    (layer,) = diff_images(before, after).files
    assert (layer.role, names(layer.changes.changed)) == ("l1", ["etc/a"])


def test_layers_show_their_sizes_and_those_that_came_or_went() -> None:
    before, after = inventory({"a": ""}, {"b": ""}, {"c": ""}), inventory({"a": ""}, {"b": "", "d": ""})
    found = {layer.role: (layer.before, layer.after, layer.changed) for layer in diff_images(before, after).layers}
    assert found == {"base": (1001, 1001, False), "l1": (1001, 1002, True), "l2": (1001, None, True)}


def test_the_same_image_differs_in_nothing() -> None:
    same = inventory(BASE, APP_BEFORE)
    diff = diff_images(same, same)
    assert [name for name, value in diff if isinstance(value, Changes) and value.count] == []
    assert (diff.files, diff.firewall) == ((), ())
    assert render_diff(diff) == f"demo 0.1.0 and demo 0.1.0 are the same image: {same.image.id}"


def test_the_text_names_every_kind_of_change_and_cuts_long_lists_of_files() -> None:
    flaw = Finding(
        cve="CVE-2026-0001",
        package="openssl",
        version="3.5.1-1",
        status="resolved",
        fixed="3.5.2-1",
        urgency="high",
        nodsa="",
        binaries=("openssl",),
    )
    text = render_diff(make_diff(cves=Cves(snapshot=sha("s"), added=(), fixed=(flaw,))), shown=2)
    for line in (
        "demo 0.1.0 -> demo 0.2.0",
        "  ~ openssl:amd64 3.5.1-1 -> 3.5.2-1",
        "  ~ release 6.12.1 -> 6.12.2",
        "  - quiet",
        "  disabled: multi-user.target.wants/a.service",
        "  masked: a.service",
        "  ~ vm.swappiness 60 -> 1",
        f"  + etc/ufw/user.rules: {RULE.format(80)}",
        "  + usr/bin/ping 0:0 0755 cap_net_raw=ep",
        "  - CVE-2026-0001 openssl 3.5.1-1 (high, resolved, fixed in 3.5.2-1)",
    ):
        assert line in text.splitlines(), text
    assert "more; --json has them all" in text
    assert "\x1b" not in text
    assert "there is no snapshot" in render_diff(make_diff())


def test_the_document_can_be_read_again() -> None:
    diff = make_diff()
    assert ImageDiff.model_validate(diff.to_dict()) == diff


def test_compare_and_compare_lines() -> None:
    assert compare({"a": "1", "b": "1"}, {"b": "2", "c": "1"}).count == 3
    assert compare_lines(["a", "b"], ["b", "a"]) in ((("a",), ("a",)), (("b",), ("b",)))
    assert compare_lines(["a", "a"], ["a"]) == (("a",), ())
