"""COMMITTED: the default is read back, and the store learns what the host keeps installed."""

from typing import Any

import pytest

from flash.config import render_bundle
from flash.doors import shared
from flash.journal import Journal
from flash.trust import VerifiedImage
from qtrade.errors import HostError, QtradeError
from qtrade.signing import ensure_key
from qtrade.store import open_store
from tests.fakes.examples import make_environment, make_host, make_image, make_settings, sha
from tests.fakes.flash import FakeContext, FakeLink
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

IMAGE = make_image()
STATUS = {"default": IMAGE.id, "previous": sha("old"), "once": "", "installed": [IMAGE.id, sha("old")]}


@pytest.fixture
def context(tmp_path) -> FakeContext:
    settings = make_settings(tmp_path)
    ensure_key(settings.keys_dir, "job")
    ensure_key(settings.keys_dir, "build")
    host, environment = make_host(), make_environment()
    verified = VerifiedImage(IMAGE, IMAGE.to_json(), IMAGE.list_text(), b"")
    bundle = render_bundle(host, environment, IMAGE)
    journal = Journal(tmp_path / "journal")
    parts = (settings, host, environment, verified, open_store(settings), bundle, RecordingReporter(), journal)
    return FakeContext(*parts, fake_link=FakeLink(statuses=[STATUS]))


def test_the_store_learns_what_the_host_keeps(context) -> None:
    evidence = shared.enter_committed(context, 1)
    assert evidence == {"default": IMAGE.id, "previous": sha("old"), "installed_recorded": True}
    assert set(context.store.host_images("rpc-1")) == {IMAGE.id, sha("old")}


def test_a_host_that_did_not_keep_its_default_is_not_recorded(context) -> None:
    context.fake_link.statuses[:] = [{**STATUS, "default": sha("old")}]
    with pytest.raises(HostError):
        shared.enter_committed(context, 1)
    assert context.store.host_images("rpc-1") == ()


class Dropping(FakeLink):
    """A host whose connection drops in the middle of the first `drops` commits; `does` says whether they were done."""

    def __init__(self, *, drops: int, does: bool) -> None:
        super().__init__(statuses=[{**STATUS, "default": sha("old")}])
        self.drops, self.does = drops, does

    def run(self, job, **options):
        super().run(job, **options)
        if self.does or len(self.jobs) > self.drops:
            self.statuses = [STATUS]
        if len(self.jobs) <= self.drops:
            raise HostError("rpc-1 cannot be reached", details="Connection reset by peer")
        return {}


@pytest.mark.parametrize(("does", "commits"), [(True, 1), (False, 2)])
def test_a_connection_that_drops_while_it_commits_loses_nothing(context, does, commits) -> None:
    context.fake_link = Dropping(drops=1, does=does)
    evidence = shared.enter_committed(context, 120)
    assert evidence["default"] == IMAGE.id
    assert len(context.fake_link.jobs) == commits
    assert evidence.get("commits", 1) == commits


def test_a_host_that_never_takes_the_commit_says_why(context) -> None:
    context.fake_link = Dropping(drops=9, does=False)
    with pytest.raises(HostError, match="cannot be reached"):
        shared.enter_committed(context, 120)
    assert len(context.fake_link.jobs) == 3


class DeafStore:
    """A store that takes nothing."""

    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    def set_host_images(self, host: str, ids: Any) -> None:
        self.asked.append(host)
        raise QtradeError("s3://images is away")


def test_a_host_is_committed_though_the_store_is_away_and_people_are_told(context) -> None:
    context.store = DeafStore()
    evidence = shared.enter_committed(context, 1)
    assert context.store.asked == ["rpc-1"]
    assert (evidence["installed_recorded"], evidence["store_error"]) == (False, "s3://images is away")
    (line,) = context.reporter.lines
    assert "rpc-1 is committed, but the store was not told" in line
