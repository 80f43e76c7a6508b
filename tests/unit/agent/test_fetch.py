"""Downloads against a server on the loopback that truncates, flips, ignores ranges or fails."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from flash.agent.errors import AgentError
from flash.agent.fetch import Fetcher
from flash.agent.imagelist import Blob

pytestmark = pytest.mark.unit

DATA = bytes(range(256)) * 12_000


class Store(http.server.ThreadingHTTPServer):
    """Serves one blob, with a list of faults to commit, one per GET."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.faults = []
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/s"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Store

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "error":
            self.send_error(503)
            return
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(self.server.data)
        body = self.server.data[start:end]
        if fault == "norange":
            asked, body = None, self.server.data
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.server.data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "flip":
            body = body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def store():
    server = Store()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def blob():
    return Blob(hashlib.sha256(DATA).hexdigest(), len(DATA), "", "kernel")


@pytest.fixture
def fetcher(store, tmp_path):
    return Fetcher(store.url, tmp_path, sleep=lambda _: None, tries=3)


def target(tmp_path: Path, blob: Blob) -> Path:
    return tmp_path / blob.path


def test_blob_arrives_whole(fetcher, blob, tmp_path):
    fetcher.fetch_all([blob, blob])
    assert target(tmp_path, blob).read_bytes() == DATA
    assert fetcher.fetched.bytes_fetched == len(DATA)
    assert fetcher.fetched.blobs_fetched == [blob.sha256]


def test_what_is_there_is_not_fetched(fetcher, store, blob, tmp_path):
    target(tmp_path, blob).parent.mkdir()
    target(tmp_path, blob).write_bytes(DATA)
    fetcher.fetch_all([blob])
    assert store.requests == []


def test_what_is_there_but_altered_is_fetched(fetcher, blob, tmp_path):
    target(tmp_path, blob).parent.mkdir()
    target(tmp_path, blob).write_bytes(DATA[:-1] + b"x")
    fetcher.fetch_all([blob])
    assert target(tmp_path, blob).read_bytes() == DATA


def test_cut_transfer_resumes(fetcher, store, blob, tmp_path):
    store.faults = ["cut", "error"]
    fetcher.fetch_all([blob])
    rest = f"bytes={len(DATA) // 2}-{len(DATA) - 1}"
    assert store.requests == [None, rest, rest]
    assert fetcher.fetched.retries == 2
    assert fetcher.fetched.bytes_fetched == len(DATA)
    assert target(tmp_path, blob).read_bytes() == DATA


def test_next_run_resumes(store, blob, tmp_path):
    store.faults = ["cut", "error"]
    with pytest.raises(AgentError, match="503"):
        Fetcher(store.url, tmp_path, tries=1).fetch_all([blob])
    assert not target(tmp_path, blob).exists()
    again = Fetcher(store.url, tmp_path, tries=1)
    again.fetch_all([blob])
    assert again.fetched.bytes_fetched == len(DATA) - len(DATA) // 2


def test_truncated_blob_is_never_named(fetcher, store, blob, tmp_path):
    store.data = DATA[:-1]
    with pytest.raises(AgentError):
        fetcher.fetch_all([blob])
    assert not target(tmp_path, blob).exists()


def test_altered_blob_is_refused_and_not_kept(fetcher, store, blob, tmp_path):
    store.faults = ["flip"] * 4
    with pytest.raises(AgentError) as caught:
        fetcher.fetch_all([blob])
    assert caught.value.code == "blob-altered"
    assert list(target(tmp_path, blob).parent.iterdir()) == []


def test_altered_once_is_fetched_anew(fetcher, store, blob, tmp_path):
    store.faults = ["flip"]
    fetcher.fetch_all([blob])
    assert store.requests == [None, None]
    assert target(tmp_path, blob).read_bytes() == DATA


def test_altered_partial_file_does_not_stick(fetcher, blob, tmp_path):
    partial = tmp_path / "boot" / f".{blob.sha256}.part"
    partial.parent.mkdir()
    partial.write_bytes(b"?" * 1000)
    fetcher.fetch_all([blob])
    assert target(tmp_path, blob).read_bytes() == DATA


def test_longer_blob_is_refused(fetcher, store, blob):
    store.data = DATA + b"more"
    with pytest.raises(AgentError) as caught:
        fetcher.fetch_all([blob])
    assert caught.value.code == "blob-size"
    assert fetcher.fetched.bytes_fetched == 0


def test_server_without_ranges_is_survived(fetcher, store, blob, tmp_path):
    store.faults = ["cut", "norange"]
    fetcher.fetch_all([blob])
    assert target(tmp_path, blob).read_bytes() == DATA


def test_tries_are_bounded(fetcher, store, blob):
    store.faults = ["error"] * 9
    with pytest.raises(AgentError, match="503"):
        fetcher.fetch_all([blob])
    assert len(store.requests) == 3


def test_probe_compares_sizes(fetcher, store, blob):
    fetcher.probe([blob])
    store.data = DATA[:-5]
    with pytest.raises(AgentError) as caught:
        fetcher.probe([blob])
    assert caught.value.code == "blob-size"
    store.faults = ["error"]
    with pytest.raises(AgentError, match="503"):
        fetcher.probe([blob])
