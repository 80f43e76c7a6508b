"""How files come from servers: over few connections, through the environment's proxies, by the system's certificates."""

import base64
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bake.lock import web
from bake.lock.download import Wanted, fetch, fetch_all
from qtrade.errors import Refused, ToolError
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.reporter import RecordingReporter
from tests.fakes.upstream_server import Upstream, serve_upstream

pytestmark = pytest.mark.integration

CONTENTS = {f"part{number}": f"content {number} ".encode() * 5000 for number in range(60)}
NOWHERE = "http://archive.example.org"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def upstream(monkeypatch) -> Iterator[Upstream]:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serve_upstream() as server:
        server.keeps = True
        server.files |= {f"/{name}": content for name, content in CONTENTS.items()}
        yield server


@pytest.fixture
def fresh_connections() -> Iterator[None]:
    """Certificates are read once, with the first connection."""
    web._connections.cache_clear()
    yield
    web._connections.cache_clear()


def wanted(root: str, name: str) -> Wanted:
    content = CONTENTS[name]
    return Wanted(name, name, hashlib.sha256(content).hexdigest(), len(content), (f"{root}/{name}",))


def fetch_every(settings: Settings, upstream: Upstream) -> int:
    """Fetch all files; return how many connections the server saw."""
    fetch_all(settings, [wanted(upstream.url, name) for name in CONTENTS], RecordingReporter())
    kept = {path.name for path in (settings.cache_dir / "blobs").rglob("part*")}
    assert kept == set(CONTENTS)
    return upstream.connections


def test_many_files_come_over_few_connections(settings, upstream) -> None:
    assert fetch_every(settings, upstream) <= 8
    assert len(upstream.seen) == len(CONTENTS)


def test_a_server_that_closes_what_it_promised_to_keep_is_asked_again(settings, upstream) -> None:
    upstream.drops_silently = True
    assert fetch_every(settings, upstream) >= len(CONTENTS)


def test_one_broken_transfer_leaves_the_others_alone(settings, upstream) -> None:
    upstream.cut["/part7"] = 10_000
    fetch_every(settings, upstream)
    assert [item.headers.get("Range") for item in upstream.seen if item.path == "/part7"] == [None, "bytes=10000-"]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_the_proxy_of_the_environment_is_asked(settings, upstream, monkeypatch, scheme: str) -> None:
    monkeypatch.setenv("http_proxy", f"{scheme}name:pass%20word@127.0.0.1:{upstream.port}")
    upstream.files[f"{NOWHERE}/part1"] = CONTENTS["part1"]
    assert fetch(settings, wanted(NOWHERE, "part1")).read_bytes() == CONTENTS["part1"]
    (seen,) = upstream.seen
    assert seen.path == f"{NOWHERE}/part1"
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"name:pass word").decode()


def test_no_proxy_is_obeyed(settings, upstream, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(ToolError, match="cannot read"):
        fetch(settings, wanted(upstream.url, "part1"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(settings, wanted(upstream.url, "part1"))
    assert upstream.paths() == ["/part1"]


@pytest.fixture
def certificate(tmp_path) -> Path:
    path: Path = tmp_path / "server.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=test", "-days", "1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "crt"]
    subprocess.run([*make, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "crt").read_text())
    return path


@pytest.mark.usefixtures("fresh_connections")
def test_the_systems_certificates_decide_and_nothing_goes_on_in_plain_text(
    settings, upstream, certificate, monkeypatch
) -> None:
    with serve_upstream(certificate=certificate) as secure:
        secure.files["/part1"] = CONTENTS["part1"]
        with pytest.raises(ToolError, match="cannot read https") as caught:
            fetch(settings, wanted(secure.url, "part1"))
        assert "certificate verify failed" in caught.value.details.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        web._connections.cache_clear()
        fetch(settings, wanted(secure.url, "part1"))
        secure.redirects["/part2"] = f"{upstream.url}/part2"
        with pytest.raises(Refused, match="redirects from https to plain http"):
            fetch(settings, wanted(secure.url, "part2"))
    assert upstream.seen == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/part1"])
def test_a_redirect_leads_nowhere_but_to_the_web(settings, upstream, target: str) -> None:
    upstream.redirects["/part1"] = target
    with pytest.raises(Refused, match="redirects to"):
        fetch(settings, wanted(upstream.url, "part1"))


def test_a_circle_of_redirects_ends(settings, upstream) -> None:
    upstream.redirects["/part1"] = f"{upstream.url}/part1?signature=secret"
    with pytest.raises(ToolError, match="cannot read") as caught:
        fetch(settings, wanted(upstream.url, "part1"))
    assert caught.value.details == "more than 10 redirects"
    assert "secret" not in caught.value.render()
