"""An image that was really baked, on its way to production: what its CVE scans say decides, and the last one counts."""

from collections.abc import Iterator

import pytest
import yaml

from qtrade.settings import load_settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.trust.keyring import load_keyring
from qtrade.trust.statements import TEST, statement
from tests.fakes.tiny import TinyProject, make_tiny_project
from tests.fakes.tracker import TrackerServer, issue, serve_tracker

pytestmark = pytest.mark.integration

PROMOTE = ("images", "promote", "--recipe", "tiny", "--to", "production", "--yes")
SCAN = ("images", "cve", "--recipe", "tiny", "--update", "--attest")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    """The smallest recipe, an environment that asks for the gate, and keys that are no lab's."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny = make_tiny_project(load_settings(), folder)
    environments = tiny.settings.project / "manifests/environments"
    environments.mkdir()
    fields = {"schema_version": 1, "name": "production", "require_cve_gate": True}
    (environments / "production.yaml").write_text(yaml.safe_dump(fields))
    assert tiny.run("keys", "init", "--root-key", str(folder / "root.key")).returncode == 0
    return tiny


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with serve_tracker({"jq": {"CVE-2026-0001": issue(urgency="low")}}) as server:
        yield server


def test_a_scan_opens_the_way_to_production_and_a_newer_one_closes_it(tiny, tracker) -> None:
    image = tiny.bake("1.0").image
    for firmware in ("bios", "uefi"):  # no QEMU here: the recipe has nobody who could log in
        said = statement(image.id, TEST, {"kind": "boot", "firmware": firmware, "passed": True})
        tiny.store.attest(image.id, load_keyring(tiny.settings).signer("build").envelope(STATEMENT_TYPE, said))

    refused = tiny.run(*PROMOTE, "1.0")
    assert refused.returncode == 7
    assert "did not go through the CVE gate" in refused.stderr
    assert "qtrade images cve VERSION --update --attest" in refused.stderr
    scanned = tiny.run(*SCAN, "1.0", "--url", tracker.url)
    assert scanned.returncode == 0, scanned.stderr
    assert "CVE-2026-0001" in scanned.stdout, "the scan did not find what was planted"
    promoted = tiny.run(*PROMOTE, "1.0")
    assert promoted.returncode == 0, promoted.stderr

    tracker.document["jq"]["CVE-2026-0002"] = issue(urgency="high")
    assert tiny.run(*SCAN, "1.0", "--url", tracker.url).returncode == 7
    again = tiny.run(*PROMOTE, "1.0")
    assert again.returncode == 7
    assert "1 findings are not waived: CVE-2026-0002 jq" in again.stderr
