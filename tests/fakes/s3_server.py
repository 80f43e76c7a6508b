"""A strict S3 on loopback: it checks what others let pass (signatures, expiry, digests), and has faults planted in it.

A small part of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/): objects, conditional writes, ranges, listings, multipart.
"""

import base64
import hashlib
import hmac
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY, REGION = "AKIAFAKE", "fake-secret", "us-east-1"
_STAMP = "%Y%m%dT%H%M%SZ"
_SKEW_S = 900


@dataclass
class Fault:
    """What goes wrong with some requests: those of `method` whose path and query contain `part`, from the `first`, `times` of them.

    Kinds: `slow_down` (503), `reset` (before anything was done), `lost_answer` (done, then reset), `truncated` (half the body),
    `wrong_bytes` (a body of the right length), `damaged_upload` (the server sees other bytes than were sent), `meet` (waits
    until a second such request is under way).
    """

    kind: str
    method: str
    part: str
    first: int = 1
    times: int = 1
    seen: int = 0
    fired: int = 0

    def strikes(self, method: str, target: str) -> bool:
        if method != self.method or self.part not in target:
            return False
        self.seen += 1
        hit = self.first <= self.seen < self.first + self.times
        self.fired += hit
        return hit


@dataclass
class Stored:
    content: bytes
    etag: str
    modified: float = field(default_factory=time.time)


@dataclass
class Upload:
    key: str
    parts: dict[int, Stored] = field(default_factory=dict)
    begun: float = field(default_factory=time.time)


class S3Error(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class S3Server(ThreadingHTTPServer):
    """The server and its one bucket. `log` holds (method, path and query, bytes of the body) of every request, `headers` their names."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, bucket: str = "images") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bucket = bucket
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []
        self.headers: list[set[str]] = []
        self.lock = threading.RLock()
        self.clock_offset_s = 0.0
        self.meeting = threading.Barrier(2)
        self.page = 1000

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plant(self, kind: str, method: str, part: str, *, first: int = 1, times: int = 1) -> Fault:
        fault = Fault(kind, method, part, first, times)
        self.faults.append(fault)
        return fault

    def count(self, method: str, part: str) -> int:
        return sum(1 for seen, target, _ in self.log if seen == method and part in target)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: connections break here on purpose."""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Server

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.log.append((self.command, self.path, len(body)))
            self.server.headers.append({name.lower() for name in self.headers})
            kinds = {fault.kind for fault in self.server.faults if fault.strikes(self.command, self.path)}
        if "meet" in kinds:
            self.server.meeting.wait(60)
        if "reset" in kinds:
            self._reset()
            return
        if "damaged_upload" in kinds:
            body = bytes([body[0] ^ 1]) + body[1:]
        try:
            status, headers, content = (503, {}, _error("SlowDown")) if "slow_down" in kinds else self._answer(body)
        except S3Error as error:
            status, headers, content = error.status, {}, _error(error.code)
        if "lost_answer" in kinds:
            self._reset()
            return
        if "wrong_bytes" in kinds:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._send(status, {"Content-Length": str(len(content)), **headers}, content, cut="truncated" in kinds)

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names of the base class

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _check(self, body: bytes) -> None:
        """Check the signature (AWS Signature Version 4, in the header or the query) and every digest that was sent."""
        raw = urlsplit(self.path)
        query = dict(parse_qsl(raw.query, keep_blank_values=True))
        now = time.time() + self.server.clock_offset_s
        if "X-Amz-Signature" in query:
            credential, signed, given = (
                query[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature")
            )
            stamp, payload = query["X-Amz-Date"], "UNSIGNED-PAYLOAD"
            if now > _seconds(stamp) + int(query["X-Amz-Expires"]):
                raise S3Error(403, "AccessDenied")
        else:
            match = re.fullmatch(
                r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=(\S+)",
                self.headers.get("Authorization", ""),
            )
            if match is None:
                raise S3Error(403, "AccessDenied")
            credential, signed, given = match.groups()
            stamp, payload = self.headers["X-Amz-Date"], self.headers["X-Amz-Content-SHA256"]
            if abs(now - _seconds(stamp)) > _SKEW_S:
                raise S3Error(403, "RequestTimeTooSkewed")
            if payload != hashlib.sha256(body).hexdigest():
                raise S3Error(400, "XAmzContentSHA256Mismatch")
        pairs = sorted(pair for pair in raw.query.split("&") if pair and not pair.startswith("X-Amz-Signature="))
        canonical_query = "&".join(pair if "=" in pair else f"{pair}=" for pair in pairs)
        headers = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in signed.split(";"))
        request = f"{self.command}\n{raw.path}\n{canonical_query}\n{headers}\n{signed}\n{payload}"
        access_key, *scope = credential.split("/")
        text = "\n".join(("AWS4-HMAC-SHA256", stamp, "/".join(scope), hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{SECRET_KEY}".encode()
        for word in (*scope, text):
            key = hmac.digest(key, word.encode(), "sha256")
        if access_key != ACCESS_KEY or scope[1] != REGION or key.hex() != given:
            raise S3Error(403, "SignatureDoesNotMatch")
        digests = {"x-amz-checksum-sha256": hashlib.sha256(body).digest(), "Content-MD5": hashlib.md5(body).digest()}
        digests["x-amz-checksum-crc32"] = struct.pack(">I", zlib.crc32(body))
        for name, digest in digests.items():
            if name in self.headers and base64.b64decode(self.headers[name]) != digest:
                raise S3Error(400, "BadDigest")

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self._check(body)
        with self.server.lock:
            return self._do(body)

    def _do(self, body: bytes) -> tuple[int, dict[str, str], bytes]:  # noqa: PLR0911 - one case per operation
        raw = urlsplit(self.path)
        bucket, _, key = unquote(raw.path).removeprefix("/").partition("/")
        query = dict(parse_qsl(raw.query, keep_blank_values=True))
        if bucket != self.server.bucket:
            raise S3Error(404, "NoSuchBucket")
        match self.command:
            case "GET" if not key:
                return self._list(query) if "uploads" not in query else self._list_uploads(query)
            case "GET" if "uploadId" in query:
                return self._list_parts(query)
            case "GET" | "HEAD":
                return self._read(key)
            case "PUT" if "uploadId" in query:
                stored = Stored(body, f'"{hashlib.md5(body).hexdigest()}"')
                self._upload(query).parts[int(query["partNumber"])] = stored
                return 200, {"ETag": stored.etag}, b""
            case "PUT":
                return self._write(key, body)
            case "POST" if "uploads" in query:
                name = hashlib.sha256(f"{key} {len(self.server.uploads)} {time.time()}".encode()).hexdigest()
                self.server.uploads[name] = Upload(key)
                return 200, {}, f"<R><UploadId>{name}</UploadId></R>".encode()
            case "POST":
                return self._complete(key, query, body)
            case "DELETE" if "uploadId" in query:
                self._upload(query)
                del self.server.uploads[query["uploadId"]]
                return 204, {}, b""
            case _:
                self.server.objects.pop(key, None)
                return 204, {}, b""

    def _read(self, key: str) -> tuple[int, dict[str, str], bytes]:
        if key not in self.server.objects:
            raise S3Error(404, "NoSuchKey")
        stored = self.server.objects[key]
        headers = {"ETag": stored.etag, "Last-Modified": _http_date(stored.modified), "Accept-Ranges": "bytes"}
        if self.command == "HEAD":
            return 200, {**headers, "Content-Length": str(len(stored.content))}, b""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is None:
            return 200, headers, stored.content
        begin, size = int(wanted[1]), len(stored.content)
        if begin >= size:
            raise S3Error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
        return 206, headers, stored.content[begin:]

    def _write(self, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        there = self.server.objects.get(key)
        if self.headers.get("If-None-Match") == "*" and there:
            raise S3Error(412, "PreconditionFailed")
        if wanted := self.headers.get("If-Match"):
            if there is None:
                raise S3Error(404, "NoSuchKey")
            if there.etag != wanted:
                raise S3Error(412, "PreconditionFailed")
        stored = Stored(body, f'"{hashlib.md5(body).hexdigest()}"')
        self.server.objects[key] = stored
        return 200, {"ETag": stored.etag}, b""

    def _upload(self, query: dict[str, str]) -> Upload:
        if query["uploadId"] not in self.server.uploads:
            raise S3Error(404, "NoSuchUpload")
        return self.server.uploads[query["uploadId"]]

    def _complete(self, key: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._upload(query)
        numbers = [int(item) for item in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        etags = [item.decode().replace("&quot;", '"') for item in re.findall(rb"<ETag>(.*?)</ETag>", body)]
        if [upload.parts[number].etag for number in numbers] != etags or numbers != sorted(numbers):
            raise S3Error(400, "InvalidPart")
        content = b"".join(upload.parts[number].content for number in numbers)
        self.server.objects[key] = Stored(content, f'"{hashlib.md5(content).hexdigest()}-{len(numbers)}"')
        del self.server.uploads[query["uploadId"]]
        return 200, {}, f"<R><ETag>{self.server.objects[key].etag}</ETag></R>".encode()

    def _list(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        after = query.get("continuation-token", "")
        keys = sorted(key for key in self.server.objects if key.startswith(query.get("prefix", "")) and key > after)
        page, rest = keys[: self.server.page], keys[self.server.page :]
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[key].content)}</Size>"
            f"<LastModified>{_iso(self.server.objects[key].modified)}</LastModified></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
        return 200, {}, f"<R><IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}{items}</R>".encode()

    def _list_uploads(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        items = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{name}</UploadId><Initiated>{_iso(upload.begun)}</Initiated></Upload>"
            for name, upload in self.server.uploads.items()
            if upload.key.startswith(query.get("prefix", ""))
        )
        return 200, {}, f"<R><IsTruncated>false</IsTruncated>{items}</R>".encode()

    def _list_parts(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        items = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(part.etag)}</ETag><Size>{len(part.content)}</Size></Part>"
            for number, part in sorted(self._upload(query).parts.items())
        )
        return 200, {}, f"<R><IsTruncated>false</IsTruncated>{items}</R>".encode()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _http_date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
