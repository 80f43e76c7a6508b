"""Files and releases of upstreams, from a local server of their shapes: verified, or refused; and no token where it does not belong."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bake.components import Fetched
from bake.components.take import have_component, take_components
from bake.lock.document import LockedFile
from bake.lock.download import Wanted, fetch, fetch_all
from bake.lock.files import lock_github, lock_url
from bake.lock.web import TOKEN_VARIABLE
from qtrade.errors import NotFound, QtradeError, Refused, ToolError, TrustError
from qtrade.manifest.component import GithubComponent, UrlComponent
from qtrade.redaction import redact
from qtrade.settings import Settings
from qtrade.store import LocalStore
from tests.fakes.examples import make_settings
from tests.fakes.reporter import RecordingReporter
from tests.fakes.upstream_server import TOKEN, Upstream, serve_upstream

pytestmark = pytest.mark.integration

CONTENT = b"a component" * 100_000
SHA = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
VERSION = "15.1.2+solana.4.2.0"
ASSET = "libplugin.so"
SUMS = f"plugin_{VERSION}_checksums.txt"
REPOSITORY = "owner/plugin"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serve_upstream() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Upstream]:
    """Another server: that of the downloads, while `upstream` is the API's."""
    with serve_upstream() as server:
        yield server


def url_component(upstream: Upstream, **changes: Any) -> UrlComponent:
    fields = {"kind": "url", "version": VERSION, "url": upstream.url + "/v{version}/part.tar.gz", **changes}
    return UrlComponent.model_validate(fields)


def github(upstream: Upstream, **changes: Any) -> GithubComponent:
    fields = {"kind": "github", "version": VERSION, "repository": REPOSITORY, "asset": ASSET, "api": upstream.url}
    return GithubComponent.model_validate({**fields, **changes})


def cached(settings: Settings, locked: LockedFile) -> bytes:
    return (settings.cache_dir / "blobs" / locked.sha256 / locked.file).read_bytes()


def kept(settings: Settings) -> list[Path]:
    """Return what stands in the cache."""
    return [path for path in (settings.cache_dir / "blobs").rglob("*") if path.is_file()]


def test_a_file_without_a_known_digest_is_recorded_at_first_fetch(settings, upstream) -> None:
    upstream.files[f"/v{VERSION}/part.tar.gz"] = CONTENT
    locked = lock_url(settings, "part", url_component(upstream))
    assert (locked.sha256, locked.size, locked.digest_from) == (SHA, len(CONTENT), "first fetch")
    assert (locked.file, locked.address) == ("part.tar.gz", f"{upstream.url}/v{VERSION}/part.tar.gz")
    assert cached(settings, locked) == CONTENT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sums.txt", f"{OTHER}  other.tar.gz\n{SHA}  part.tar.gz\n"),
        ("sums.txt", f"{OTHER} *other.tar.gz\n{SHA} *part.tar.gz\n"),
        ("part.tar.gz.sha256", f"{SHA}\n"),
        ("part.tar.gz.sha256", f"{SHA}  part.tar.gz"),
        ("sums.txt", f"SHA256 (part.tar.gz) = {SHA}\n"),
        ("demo.changes", f"Checksums-Sha256:\n {OTHER} 5 other.tar.gz\n {SHA} {len(CONTENT)} part.tar.gz\n"),
    ],
)
def test_upstreams_checksum_file_gives_the_digest(settings, upstream, name, text) -> None:
    upstream.files |= {f"/v{VERSION}/part.tar.gz": CONTENT, f"/v{VERSION}/{name}": text.encode()}
    locked = lock_url(settings, "part", url_component(upstream, checksums=f"{upstream.url}/v{{version}}/{name}"))
    assert locked.digest_from == f"checksums {upstream.url}/v{VERSION}/{name}"
    assert locked.sha256 == SHA


def test_a_file_that_is_not_the_one_of_the_checksum_file_is_refused_and_not_kept(settings, upstream) -> None:
    upstream.files |= {f"/v{VERSION}/part.tar.gz": CONTENT, "/sums": f"{OTHER}  part.tar.gz\n".encode()}
    with pytest.raises(TrustError, match="not the file that was pinned") as caught:
        lock_url(settings, "part", url_component(upstream, checksums=f"{upstream.url}/sums"))
    assert OTHER in caught.value.details
    assert SHA in caught.value.details
    assert kept(settings) == []


def test_recipe_and_checksum_file_must_agree(settings, upstream) -> None:
    upstream.files |= {f"/v{VERSION}/part.tar.gz": CONTENT, "/sums": f"{SHA}  part.tar.gz\n".encode()}
    with pytest.raises(TrustError, match="do not agree") as caught:
        lock_url(settings, "part", url_component(upstream, sha256=OTHER, checksums=f"{upstream.url}/sums"))
    assert f"{OTHER} (recipe)" in caught.value.details
    assert upstream.paths() == ["/sums"]


def test_a_checksum_file_without_the_file_lists_what_it_names(settings, upstream) -> None:
    upstream.files["/sums"] = f"{OTHER}  other.tar.gz\n{SHA}  third.tar.gz\n".encode()
    with pytest.raises(NotFound, match=r"names no digest of part\.tar\.gz") as caught:
        lock_url(settings, "part", url_component(upstream, checksums=f"{upstream.url}/sums"))
    assert caught.value.details == "files that it names: other.tar.gz, third.tar.gz"


def test_a_missing_file_is_named_and_nothing_is_kept(settings, upstream) -> None:
    with pytest.raises(NotFound, match=r"there is no http://127.*/part\.tar\.gz"):
        lock_url(settings, "part", url_component(upstream))
    assert kept(settings) == []


def test_a_released_asset_is_taken_by_githubs_own_digest_over_a_redirect_to_another_server(
    settings, upstream, other
) -> None:
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT})
    page = f"/{REPOSITORY}/releases/download/v{VERSION}/{ASSET}"
    other.files["/signed/blob"] = upstream.files.pop(page)
    upstream.redirects[page] = f"{other.url}/signed/blob?sig=secret"
    locked = lock_github(settings, "plugin", github(upstream))
    assert (locked.sha256, locked.digest_from, locked.file) == (SHA, "GitHub release", ASSET)
    assert locked.address == f"{upstream.url}/{REPOSITORY}/releases/download/v{VERSION.replace('+', '%2B')}/{ASSET}"
    assert cached(settings, locked) == CONTENT
    assert other.paths() == ["/signed/blob"]


def test_a_release_without_digests_is_taken_by_its_checksums_asset(settings, upstream) -> None:
    sums = f"{OTHER}  other\n{SHA}  {ASSET}\n".encode()
    release = upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT, SUMS: sums})
    for asset in release["assets"]:
        asset["digest"] = None
    upstream.store(f"/repos/{REPOSITORY}/releases/tags/v{VERSION}", release)
    locked = lock_github(settings, "plugin", github(upstream, checksums="plugin_{version}_checksums.txt"))
    assert (locked.sha256, locked.digest_from) == (SHA, f"checksums {SUMS}")


def test_githubs_digest_and_the_checksums_asset_must_agree(settings, upstream) -> None:
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT, SUMS: f"{OTHER}  {ASSET}\n".encode()})
    with pytest.raises(TrustError, match="do not agree") as caught:
        lock_github(settings, "plugin", github(upstream, checksums=SUMS))
    assert f"{SHA} (GitHub release)" in caught.value.details
    assert f"{OTHER} (checksums {SUMS})" in caught.value.details
    assert kept(settings) == []


def test_a_release_without_the_asset_lists_those_that_there_are(settings, upstream) -> None:
    upstream.add_release(REPOSITORY, f"v{VERSION}", {"b.so": b"b", "a.so": b"a"})
    with pytest.raises(NotFound, match=f"has no asset {ASSET}") as caught:
        lock_github(settings, "plugin", github(upstream))
    assert caught.value.details == "assets there: a.so, b.so"
    with pytest.raises(NotFound, match="there is no"):
        lock_github(settings, "plugin", github(upstream, version="9"))


def test_a_private_asset_needs_the_token_and_gives_it_to_the_api_only(settings, upstream, other, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT}, private=True)
    api = f"/repos/{REPOSITORY}/releases/assets/1"
    other.files["/storage"] = upstream.files.pop(api)
    upstream.redirects[api] = f"{other.url}/storage?X-Signature=abc"
    locked = lock_github(settings, "plugin", github(upstream, private=True))
    assert cached(settings, locked) == CONTENT
    assert len(upstream.tokens()) == len(upstream.seen) == 2
    assert next(item for item in upstream.seen if item.path == api).headers["Accept"] == "application/octet-stream"
    assert (other.paths(), other.tokens()) == (["/storage"], [])
    assert TOKEN not in locked.model_dump_json()
    assert redact(f"said {TOKEN}") == "said ***"


def test_the_token_goes_along_when_the_api_redirects_to_itself(settings, upstream, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT}, private=True)
    upstream.redirects[f"/repos/old/name/releases/tags/v{VERSION}"] = (
        f"{upstream.url}/repos/{REPOSITORY}/releases/tags/v{VERSION.replace('+', '%2B')}"
    )
    assert lock_github(settings, "plugin", github(upstream, repository="old/name", private=True)).sha256 == SHA


def test_a_private_release_without_a_token_says_what_to_set(settings, upstream, monkeypatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(NotFound, match=f"{TOKEN_VARIABLE} is not set"):
        lock_github(settings, "plugin", github(upstream, private=True))
    assert upstream.seen == []


def test_a_token_that_may_not_read_it_is_not_in_the_error(settings, upstream, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "ghp_another_token")
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT}, private=True)
    with pytest.raises(NotFound) as caught:
        lock_github(settings, "plugin", github(upstream, private=True))
    assert "ghp_another_token" not in caught.value.render()


def test_an_asset_at_another_server_than_the_api_gets_no_token(settings, upstream, other, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    release = upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT}, private=True)
    release["assets"][0]["url"] = f"{other.url}/asset"
    other.files["/asset"] = CONTENT
    upstream.store(f"/repos/{REPOSITORY}/releases/tags/v{VERSION}", release)
    with pytest.raises(TrustError, match="at another server"):
        lock_github(settings, "plugin", github(upstream, private=True))
    assert other.seen == []


def test_a_bake_uses_no_token_and_a_fetch_does(settings, upstream, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    upstream.add_release(REPOSITORY, f"v{VERSION}", {ASSET: CONTENT}, private=True)
    component = github(upstream, private=True)
    locked = lock_github(settings, "plugin", component)
    path = settings.cache_dir / "blobs" / locked.sha256 / locked.file
    item = Fetched("plugin", path, locked.sha256, VERSION, standin=False, locked=locked, component=component)
    store = LocalStore(settings.store)
    assert take_components(settings, store, {"plugin": item}, ["plugin"], tmp_path) == {"plugin": path}
    path.unlink()
    upstream.seen.clear()
    with pytest.raises(NotFound, match="is a private release and not in the cache"):
        take_components(settings, store, {"plugin": item}, ["plugin"], tmp_path)
    assert upstream.seen == []
    have_component(settings, store, item)
    assert path.read_bytes() == CONTENT


def test_a_token_is_not_sent_over_plain_http_to_another_machine(settings, upstream, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with pytest.raises(Refused, match="not sent over plain http"):
        lock_github(settings, "plugin", github(upstream, api="http://api.example.org", private=True))


def wanted(upstream: Upstream, **changes: Any) -> Wanted:
    fields = {
        "what": "part",
        "file": "part",
        "sha256": SHA,
        "size": len(CONTENT),
        "addresses": (f"{upstream.url}/part",),
    }
    return Wanted(**{**fields, **changes})


def test_a_transfer_that_breaks_off_goes_on_where_it_was(settings, upstream) -> None:
    upstream.files["/part"] = CONTENT
    upstream.cut["/part"] = 700_000
    assert fetch(settings, wanted(upstream)).read_bytes() == CONTENT
    ranges = [item.headers.get("Range") for item in upstream.seen]
    assert ranges == [None, "bytes=700000-"]


def test_a_server_without_ranges_sends_all_of_it_again(settings, upstream) -> None:
    upstream.files["/part"], upstream.ignores_ranges = CONTENT, True
    upstream.cut["/part"] = 700_000
    assert fetch(settings, wanted(upstream)).read_bytes() == CONTENT
    assert len(upstream.seen) == 2


def test_a_killed_download_goes_on_in_the_next_run(settings, upstream) -> None:
    upstream.files["/part"] = CONTENT
    partial = settings.cache_dir / "partial" / SHA / "part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:500_000])
    assert fetch(settings, wanted(upstream)).read_bytes() == CONTENT
    assert [item.headers.get("Range") for item in upstream.seen] == ["bytes=500000-"]
    assert not partial.exists()


def wrong_beginning(upstream: Upstream, settings: Settings) -> None:
    partial = settings.cache_dir / "partial" / SHA / "part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"!" * 500_000)


def altered(upstream: Upstream, settings: Settings) -> None:
    upstream.files["/part"] = CONTENT[:-1] + b"!"


def longer(upstream: Upstream, settings: Settings) -> None:
    upstream.files["/part"] = CONTENT + b"!"


@pytest.mark.parametrize("fault", [wrong_beginning, altered, longer])
def test_other_bytes_are_refused_and_not_kept_and_the_right_ones_come_afterwards(
    settings, upstream, fault: Callable[[Upstream, Settings], None]
) -> None:
    upstream.files["/part"] = CONTENT
    fault(upstream, settings)
    with pytest.raises(TrustError, match="not the file that was pinned") as caught:
        fetch(settings, wanted(upstream))
    assert SHA in caught.value.details
    assert kept(settings) == []
    upstream.files["/part"] = CONTENT
    assert fetch(settings, wanted(upstream)).read_bytes() == CONTENT


def test_a_shorter_file_is_no_success(settings, upstream) -> None:
    upstream.files["/part"] = CONTENT[:-100]
    with pytest.raises(QtradeError, match=r"part: http.* (ended after|is not the file)"):
        fetch(settings, wanted(upstream))
    assert kept(settings) == []


def test_the_next_address_is_tried_when_the_first_has_it_not(settings, upstream) -> None:
    upstream.files["/second"] = CONTENT
    fetch(settings, wanted(upstream, addresses=(f"{upstream.url}/first", f"{upstream.url}/second")))
    assert upstream.paths() == ["/first", "/second"]


def test_a_server_that_is_not_there_is_an_error(settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ToolError, match="cannot read"):
        fetch(settings, wanted(Upstream(port=port)))


def test_many_files_come_side_by_side_and_one_that_fails_spoils_no_other(settings, upstream) -> None:
    contents = {f"part{number}": f"content {number}".encode() * 1000 for number in range(20)}
    upstream.files |= {f"/{name}": content for name, content in contents.items() if name != "part7"}
    items = [
        Wanted(name, name, hashlib.sha256(content).hexdigest(), len(content), (f"{upstream.url}/{name}",))
        for name, content in contents.items()
    ]
    reporter = RecordingReporter()
    with pytest.raises(NotFound, match="part7"):
        fetch_all(settings, items, reporter)
    assert reporter.steps == ["download 20 files"]
    assert {path.name for path in kept(settings)} == {*contents} - {"part7"}
    upstream.files["/part7"], upstream.seen = contents["part7"], []
    fetch_all(settings, items, reporter)
    assert upstream.paths() == ["/part7"]
