"""An image that was really baked, on its way to production: what its CVE scans say decides, and the last one counts."""

from collections.abc import Iterator

import pytest
import yaml

from bake import run
from qtrade.errors import NotFound
from qtrade.settings import load_settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.trust.keyring import load_keyring
from qtrade.trust.statements import TEST, statement, verify_statements
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
    asks = {"integration": False, "rollout": False, "load_test": False, "keys": 1}
    fields = {"schema_version": 1, "name": "production", "require_cve_gate": True, "promotion": asks}
    (environments / "production.yaml").write_text(yaml.safe_dump(fields))
    assert tiny.run("keys", "init", "--root-key", str(folder / "root.key")).returncode == 0
    return tiny


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with serve_tracker({"jq": {"CVE-2026-0001": issue(urgency="low")}}) as server:
        yield server


def test_a_gate_without_a_snapshot_stops_the_bake_before_anything_is_made(tiny) -> None:
    steps = list(tiny.reporter.steps)
    with pytest.raises(NotFound, match="no snapshot of the Debian security tracker"):
        run.bake(tiny.settings, tiny.recipe, "0.1", tiny.reporter, cve_gate=True)
    assert tiny.reporter.steps == steps


def test_the_gate_of_a_bake_publishes_what_passes_and_nothing_else(tiny, tracker) -> None:
    tracker.document["jq"]["CVE-2026-0002"] = issue(urgency="high")
    assert tiny.run("images", "cve", "--update", "--url", tracker.url).returncode == 0
    gate = ("bake", "--recipe", "tiny", "--cve-gate", "--version", "0.2")
    stopped = tiny.run(*gate)
    assert stopped.returncode == 7, stopped.stderr
    assert "CVE-2026-0002 jq" in stopped.stderr
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "0.2")
    del tracker.document["jq"]["CVE-2026-0002"]
    assert tiny.run("images", "cve", "--update", "--url", tracker.url).returncode == 0
    assert tiny.run(*gate).returncode == 0
    image_id = str(tiny.store.read("tiny", "0.2").document()["id"])
    said = verify_statements(image_id, tiny.store.attestations(image_id), load_keyring(tiny.settings).trust)
    assert [(scan.is_passed, [found["cve"] for found in scan.open]) for scan in said.cves] == [
        (True, ["CVE-2026-0001"])
    ]


def test_a_scan_opens_the_way_to_production_and_a_newer_one_closes_it(tiny, tracker) -> None:
    tiny.add_task("two", "ansible.builtin.copy", content="1.0", dest="/opt/version", mode="0644")
    image = tiny.bake("1.0").image  # another one than above, of which nothing is attested yet
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
    assert "not waived: CVE-2026-0002 jq" in again.stderr
