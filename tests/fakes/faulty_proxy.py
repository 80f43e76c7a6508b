"""A TCP proxy between an HTTP client and a real server that does to answers what networks and caches do to them.

It counts each fault that it commits and each byte of a body that it sends, so that a test can show that its fault fired.
"""

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_BUFFER = 65536
_SILENCE_S = 60


class Kind(StrEnum):
    """What is done to an answer. `at` of the fault counts bytes of its body."""

    TRUNCATE = "truncate"  # ends in good order after `at` bytes
    FLIP = "flip"  # one bit of byte `at`
    STALL = "stall"  # says no more after `at` bytes, and stays
    DRIBBLE = "dribble"  # a byte at a time after `at` bytes
    RESET = "reset"  # RST after `at` bytes
    BUSY = "busy"  # 503, Retry-After: `at` seconds
    LENGTH = "length"  # Content-Length is `at` too much
    REDIRECT = "redirect"  # 302 to `to`


@dataclass
class Fault:
    """One fault, for the next `times` answers that it fits; `path` is part of the address that is asked for."""

    kind: Kind
    at: int = 0
    times: int = 1
    to: str = ""
    path: str = "/blobs/"


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Listens on the loopback; a context manager. `fired` counts faults by kind, `sent_bytes` the bytes of all bodies."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream_port: int, *faults: Fault) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = ("127.0.0.1", upstream_port)
        self.faults = list(faults)
        self.fired: Counter[Kind] = Counter()
        self.sent_bytes = 0
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_fault(self, path: str) -> Fault | None:
        """Return the fault for an answer, one use of it taken off."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def note(self, kind: Kind) -> None:
        with self.lock:
            self.fired[kind] += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what this is for."""


class _Handler(socketserver.BaseRequestHandler):
    server: FaultyProxy
    request: socket.socket

    def handle(self) -> None:
        head, rest = _read_head(self.request)
        method, path = head.split(b" ")[:2]
        self.server.asked.append(path.decode())
        fault = self.server.take_fault(path.decode()) if method == b"GET" else None
        if fault and fault.kind in (Kind.BUSY, Kind.REDIRECT):
            self._answer(fault)
            return
        with socket.create_connection(self.server.upstream, timeout=_SILENCE_S) as upstream:
            upstream.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + rest)
            answer, body = _read_head(upstream)
            if fault and fault.kind is Kind.LENGTH:
                answer = _add_to_length(answer, fault.at)
                self.server.note(Kind.LENGTH)
            self.request.sendall(answer)
            self._pass_body(upstream, body, fault)
            if fault and fault.kind is Kind.LENGTH:
                # A client that believes the length waits for the rest.
                self.server.over.wait(0.2)

    def _answer(self, fault: Fault) -> None:
        status, header = (
            ("503 Service Unavailable", f"Retry-After: {fault.at}")
            if fault.kind is Kind.BUSY
            else ("302 Found", f"Location: {fault.to}")
        )
        self.request.sendall(
            f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        self.server.note(fault.kind)

    def _pass_body(self, upstream: socket.socket, body: bytes, fault: Fault | None) -> None:
        done, body = 0, body or upstream.recv(_BUFFER)
        while body:
            if fault and fault.kind is not Kind.LENGTH and done <= fault.at < done + len(body):
                body, is_over = self._commit(fault, body, fault.at - done)
                if is_over:
                    return
            self._send(body)
            done += len(body)
            body = upstream.recv(_BUFFER)

    def _commit(self, fault: Fault, body: bytes, at: int) -> tuple[bytes, bool]:
        """Do what the fault says at byte `at` of `body`; return what is still to be sent, and whether the answer is over."""
        self.server.note(fault.kind)
        if fault.kind is Kind.FLIP:
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], False
        self._send(body[:at])
        if fault.kind is Kind.RESET:
            # What the client has not read by then is lost to it.
            time.sleep(0.002)
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()
        elif fault.kind is Kind.STALL:
            self.server.over.wait(_SILENCE_S)
        elif fault.kind is Kind.DRIBBLE:
            with contextlib.suppress(OSError):
                for byte in body[at:]:
                    self._send(bytes([byte]))
                    if self.server.over.wait(0.05):
                        break
        return b"", True

    def _send(self, data: bytes) -> None:
        self.request.sendall(data)
        with self.server.lock:
            self.server.sent_bytes += len(data)


def _read_head(source: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = source.recv(_BUFFER)
        if not more:
            raise ConnectionError("ended within its head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _add_to_length(head: bytes, surplus: int) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(
        b"Content-Length: %d" % (int(line.split(b":")[1]) + surplus)
        if line.lower().startswith(b"content-length:")
        else line
        for line in lines
    )
