"""What the specs on a host say: how many held, which were skipped and why, which failed."""

import shutil
from pathlib import Path

import pytest

from flash import health
from flash.config import render_bundle
from flash.health import check_specs
from flash.journal import Journal
from flash.trust import VerifiedImage
from qtrade import process
from qtrade.errors import HostError
from qtrade.settings import Settings
from qtrade.specs import SpecResult, read_report, spec_command
from qtrade.store import LocalStore
from tests.fakes.examples import make_environment, make_host, make_image, make_settings
from tests.fakes.flash import FakeContext
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

INI = Path(__file__).parents[3] / "ansible/specs.ini"
SPECS = """
import pytest

@pytest.mark.host
def test_holds(host):
    assert host.file("/").is_directory

@pytest.mark.host
def test_watchdog(host):
    pytest.skip("this machine has no watchdog")

@pytest.mark.layer
def test_elsewhere(host):
    assert False
"""
FAILING = """
@pytest.mark.host
def test_fails(host):
    assert host.file("/nowhere").exists
"""


@pytest.fixture
def make_context(tmp_path, monkeypatch):
    """Return a flash of an image whose role `app` has these specs; they run on this machine in place of one behind SSH."""
    settings = make_settings(tmp_path)
    folder = settings.project / "ansible/roles/app/specs"
    folder.mkdir(parents=True)
    shutil.copy(INI, settings.project / "ansible/specs.ini")

    def run_here(settings: Settings, target: object, roles: tuple[str, ...], marks: object, work: Path) -> SpecResult:
        work.mkdir(parents=True)
        report = work / "report.xml"
        process.run(spec_command(settings.ansible, roles, marks, ("--hosts=local://",), report), check=False)
        return read_report(report)

    monkeypatch.setattr(health, "target_for", lambda *_, **__: None)
    monkeypatch.setattr(health, "run_over_ssh", run_here)

    def make(specs: str) -> FakeContext:
        (folder / "test_app.py").write_text(specs)
        host, environment, image = make_host(), make_environment(), make_image()
        verified = VerifiedImage(image, image.to_json(), image.list_text(), b"")
        parts = (LocalStore(settings.store), render_bundle(host, environment, image), RecordingReporter())
        journal = Journal(settings.state_dir / "flashes/rpc-1/1.jsonl")
        return FakeContext(settings, host, environment, verified, *parts, journal)

    return make


def test_what_was_skipped_is_evidence_and_is_said(make_context) -> None:
    context = make_context(SPECS)
    found = check_specs(context)
    assert found["specs"] == 1
    (skipped,) = found["specs_skipped"]
    assert skipped.startswith("app: test_watchdog[local")
    assert "this machine has no watchdog" in skipped
    assert context.reporter.lines == [f"rpc-1: not proven, skipped: {skipped}"]


def test_a_failure_is_an_error(make_context) -> None:
    with pytest.raises(HostError, match="1 of 2 specs fail"):
        check_specs(make_context(SPECS + FAILING))
