"""Components from a signed apt repository and from a web server: verified, or refused."""

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bake.components import Fetched, fetch_components
from qtrade.errors import BadInput, NotFound, ToolError, TrustError
from qtrade.settings import Settings
from tests.fakes.examples import make_recipe, make_settings

pytestmark = pytest.mark.integration

BUILD = Path(__file__).resolve().parents[1] / "standins/build.py"
PACKAGE = "datadog-agent"
VERSION = "1:7.78.2-1"
CONTENT = b"a component" * 1000


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The repository of the stand-ins, as it was built."""
    target = tmp_path_factory.mktemp("apt")
    subprocess.run([sys.executable, BUILD, "--out", target], check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def repository(settings, built) -> Path:
    """A copy of the repository, where the recipe looks for it."""
    return shutil.copytree(built, settings.state_dir / "apt", ignore=shutil.ignore_patterns("gnupg"))


def fetch(settings: Settings, component: dict[str, Any]) -> Fetched:
    return fetch_components(settings, make_recipe(components={"part": component}, layers=[{"role": "app"}]))["part"]


def apt(**changes: Any) -> dict[str, Any]:
    places = {"repository": "file:{state}/apt", "key": "{state}/apt/key.asc"}
    return {"kind": "apt", **places, "package": PACKAGE, "version": VERSION, "standin": True, **changes}


def deb_of(repository: Path) -> Path:
    (deb,) = (repository / "pool").glob(f"{PACKAGE}_*.deb")
    return deb


def fingerprint_of(key: Path) -> str:
    done = subprocess.run(["gpg", "--show-keys", "--with-colons", key], check=True, capture_output=True, text=True)
    return next(line.split(":")[9] for line in done.stdout.splitlines() if line.startswith("fpr:"))


def test_a_package_comes_with_its_digest(settings, repository) -> None:
    part = fetch(settings, apt(fingerprint=fingerprint_of(repository / "key.asc")))
    content = deb_of(repository).read_bytes()
    assert part.path.read_bytes() == content
    assert part.sha256 == hashlib.sha256(content).hexdigest()
    assert (part.version, part.standin, part.path.suffix) == (VERSION, True, ".deb")


def test_an_altered_package_is_refused_and_not_kept(settings, repository) -> None:
    deb = deb_of(repository)
    deb.write_bytes(deb.read_bytes()[:-1] + b"!")
    with pytest.raises(TrustError, match="is not the file that was pinned"):
        fetch(settings, apt())
    assert [path for path in (settings.cache_dir / "blobs").rglob("*") if path.is_file()] == []


def test_an_altered_index_is_refused(settings, repository) -> None:
    index = repository / "dists/stable/main/binary-amd64/Packages"
    index.write_text(index.read_text().replace("Section", "section"))
    with pytest.raises(TrustError, match="Packages is not the file that InRelease names"):
        fetch(settings, apt())


def test_an_altered_release_is_refused(settings, repository) -> None:
    release = repository / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("Suite: stable", "Suite: staple"))
    with pytest.raises(TrustError, match="the signature of InRelease does not hold"):
        fetch(settings, apt())


def test_an_unsigned_release_is_refused(settings, repository) -> None:
    shutil.copyfile(repository / "dists/stable/Release", repository / "dists/stable/InRelease")
    with pytest.raises(TrustError, match="the signature of InRelease does not hold"):
        fetch(settings, apt())


def test_another_key_than_the_pinned_one_is_refused_and_named(settings, repository) -> None:
    found = fingerprint_of(repository / "key.asc")
    with pytest.raises(TrustError, match=f"InRelease is signed by {found}, not by {'A' * 40}"):
        fetch(settings, apt(fingerprint="A" * 40))


def test_a_missing_version_lists_those_that_there_are(settings, repository) -> None:
    with pytest.raises(NotFound, match="has no datadog-agent=1:9") as caught:
        fetch(settings, apt(version="1:9"))
    assert caught.value.details == f"versions there: {VERSION}"


def test_a_missing_suite_and_a_missing_section_are_errors(settings, repository) -> None:
    with pytest.raises(ToolError, match="cannot read"):
        fetch(settings, apt(suite="unstable"))
    with pytest.raises(NotFound, match="InRelease names no contrib"):
        fetch(settings, apt(section="contrib"))


def test_a_missing_key_and_a_key_that_is_none_are_errors(settings, repository) -> None:
    with pytest.raises(NotFound, match="there is no repository key"):
        fetch(settings, apt(key="keys/vendor.asc"))
    (repository / "key.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n???\n-----END")
    with pytest.raises(BadInput, match="no ASCII-armoured OpenPGP key"):
        fetch(settings, apt())


class Server:
    """A web server with one file; `body` and `size` may lie."""

    def __init__(self) -> None:
        self.body = CONTENT
        self.size = len(CONTENT)
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(server.size))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def component(self, **changes: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.http.server_port}/files/part.tar.gz"
        digest = hashlib.sha256(CONTENT).hexdigest()
        return {"kind": "url", "url": url, "sha256": digest, "size": len(CONTENT), "version": "1", **changes}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_download_is_verified_and_kept(settings, server) -> None:
    for _ in range(2):
        part = fetch(settings, server.component())
        assert part.path.read_bytes() == CONTENT
        assert part.path.name == "part.tar.gz"
    assert server.requests == 1


def test_a_kept_download_that_was_altered_is_fetched_again(settings, server) -> None:
    path = fetch(settings, server.component()).path
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch(settings, server.component()).path.read_bytes() == CONTENT
    assert server.requests == 2


def alter(server: Server) -> None:
    server.body = CONTENT[:-1] + b"!"


def truncate(server: Server) -> None:
    server.body = CONTENT[:-100]


def shorten(server: Server) -> None:
    server.body = CONTENT[:-100]
    server.size = len(server.body)


def lengthen(server: Server) -> None:
    server.body = CONTENT + b"!"
    server.size = len(server.body)


@pytest.mark.parametrize("fault", [alter, truncate, shorten, lengthen])
def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(
    settings, server, fault: Callable[[Server], None]
) -> None:
    fault(server)
    with pytest.raises((TrustError, ToolError)) as caught:
        fetch(settings, server.component())
    if fault is not truncate:
        assert hashlib.sha256(CONTENT).hexdigest() in caught.value.details
    fault_free = Server.component(server)
    server.body, server.size = CONTENT, len(CONTENT)
    assert fetch(settings, fault_free).path.read_bytes() == CONTENT


def test_a_size_that_is_wrong_in_the_recipe_is_refused(settings, server) -> None:
    with pytest.raises(TrustError, match="not the file that was pinned"):
        fetch(settings, server.component(size=1))


def test_a_server_that_is_not_there_is_an_error(settings, server) -> None:
    with pytest.raises(ToolError, match="cannot download"):
        fetch(settings, server.component(url="http://127.0.0.1:1/part"))


def test_a_source_comes_from_the_project(settings) -> None:
    folder = settings.project / "part"
    folder.mkdir()
    (folder / "x").write_text("1")
    component = {"kind": "source", "path": "part", "version": "1"}
    before = fetch(settings, component)
    (folder / "specs").mkdir()
    (folder / "specs/y").write_text("ships too")
    assert before.path == folder
    assert fetch(settings, component).sha256 != before.sha256
    with pytest.raises(NotFound, match="component part"):
        fetch(settings, {**component, "path": "ghost"})
