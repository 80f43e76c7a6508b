"""A port of a network namespace's loopback that leads to the same port of this machine's: a controller in there reaches the lab's BMC."""

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CLONE_NEWNET = 0x40000000


@contextmanager
def relay_into(netns: str, port: int) -> Iterator[None]:
    """Relay TCP from 127.0.0.1:`port` in `netns` for the length of a `with` block. Needs root."""
    listener = _listen_inside(netns, port)
    thread = threading.Thread(target=_accept, args=(listener, port), daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _listen_inside(netns: str, port: int) -> socket.socket:
    made: list[socket.socket] = []
    faults: list[OSError] = []

    def listen() -> None:
        # The namespace is this thread's only; a socket keeps the one that it was made in.
        with Path("/run/netns", netns).open("rb") as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
                faults.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
                return
        made.append(socket.create_server(("127.0.0.1", port)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return made[0]


def _accept(listener: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port), 10)
            threading.Thread(target=_join, args=(near, far), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
