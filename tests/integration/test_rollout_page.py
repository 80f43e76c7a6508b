"""The live page of a rollout in a real browser: it keeps itself up to date, and is whole where no script runs."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flash.rollout import serve
from flash.rollout.control import Rollout, new_journal
from flash.rollout.progress import Event, Phase
from flash.rollout.serve import RolloutServer
from flash.rollout.status import RolloutStatus, status_of
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.rollout.fleet import make_members, make_plan

pytestmark = pytest.mark.integration

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""


class Changing(RolloutServer):
    """Shows a rollout that rolls at the first look, and is done at all others."""

    def __init__(self, settings: Settings, first: RolloutStatus) -> None:
        super().__init__(settings, "127.0.0.1", 0)
        self.first, self.looks = first, 0

    def environments(self) -> tuple[str, ...]:
        return ("staging",)

    def look(self, environment: str) -> RolloutStatus | None:
        self.looks += 1
        return self.first if self.looks == 1 else replace(self.first, phase=Phase.DONE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Changing]:
    settings = make_settings(tmp_path)
    plan = make_plan(make_members(30))
    journal = new_journal(settings, "staging")
    progress = journal.begin(plan, 1_790_000_000.0)
    events = (Event.STARTED, Event.COMMITTED)
    names = list(progress.hosts)
    journal.write(progress, [(one, {"host": name}) for name in names[:12] for one in events], 1_790_000_100.0)
    journal.write(progress, [(Event.STARTED, {"host": name}) for name in names[12:16]], 1_790_000_200.0)
    journal.write(progress, [(Event.SKIPPED, {"host": names[16], "why": "it <does> not answer"})], 1_790_000_300.0)
    with Changing(settings, status_of(Rollout(plan, progress, journal), holder="op@here (process 7)")) as running:
        yield running


def load(url: str, folder: Path, *, live_ms: int = 10000) -> str:
    """Load a page, let it live for so long by its own clock, and return what it has become. A picture of it stays in the folder."""
    argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    argv += [f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={live_ms}", "--window-size=1100,900"]
    argv += [f"--screenshot={folder / 'page.png'}", "--dump-dom", url]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium")
def test_the_page_updates_itself(server: Changing, tmp_path: Path) -> None:
    page = load(f"{server.url}/staging", tmp_path)
    assert 'class="good">DONE</b>' in page
    assert 'class="stale"' not in page
    assert server.looks >= 2


@pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium")
def test_without_a_script_the_page_is_whole(server: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "CONTENT_SECURITY", f"{serve.CONTENT_SECURITY}; sandbox")
    page = load(f"{server.url}/staging", tmp_path, live_ms=5000)
    assert ">ROLLING</b>" in page
    assert page.count("<li class=") == 30
    assert "it &lt;does&gt; not answer" in page
    assert server.looks == 1, "no script asked for more"
