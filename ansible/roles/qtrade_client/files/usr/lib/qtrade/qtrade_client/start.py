"""Start the client once what it trades with is ready: Postgres lets it in, Geyser speaks HTTP/2, its credentials are there.

`start.py PROGRAM [ARGUMENT …]` is the unit's main process. It waits, says in the unit's status what for, keeps the watchdog quiet, puts
itself on the CPUs of the config, and becomes the program. So the unit counts as started while a validator catches up for an hour: neither
a boot nor a config push waits for it. Exit codes: 75 when it waited in vain (systemd begins anew), 78 for a config that cannot be meant
(systemd does not). Image facts come as environment variables of the unit, host facts from the config bundle, secrets as credentials.

Imports are few and cheap (no dataclasses, no ssl unless asked for): on a slow machine they are most of the cost.
"""

import os
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

WAITED_IN_VAIN = 75
BAD_CONFIG = 78
TOKEN = "client_token"  # noqa: S105 - a name
WALLET = "client_wallet"
_PROBE_S = 3.0
_PROTOCOL_3 = 196608
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


class NotReady(Exception):
    """Something is not there yet; the text says what."""


class BadConfig(Exception):
    """The config cannot be meant; the text says why."""


class Config(NamedTuple):
    """What the start needs of the host's config."""

    is_live: bool
    cpus: tuple[int, ...]
    geyser_host: str
    geyser_port: int
    geyser_tls: bool


def parse_config(text: str) -> Config:
    """Parse client.toml. Raises `BadConfig` with the field."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"client.toml is no TOML: {error}") from error
    mode = fields.get("mode")
    if mode not in ("paper", "live"):
        raise BadConfig(f"mode is {mode!r}, not paper or live")
    cpus = fields.get("cpus", [])
    if not isinstance(cpus, list) or not all(type(cpu) is int and cpu >= 0 for cpu in cpus):
        raise BadConfig(f"cpus is {cpus!r}, not a list of CPU numbers")
    geyser = fields.get("geyser")
    if not isinstance(geyser, dict):
        raise BadConfig("the table [geyser] is missing")
    host, port = _split(geyser.get("address"))
    return Config(mode == "live", tuple(cpus), host, port, geyser.get("tls") is True)


def _split(address: Any) -> tuple[str, int]:
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadConfig(f"geyser.address is {address!r}, not host:port")
    return host.strip("[]"), int(port)


def check_credentials(folder: Path, *, is_live: bool) -> None:
    """Raise `NotReady` when a credential that the mode needs was not pushed yet. What is optional comes as an empty file."""
    for name in (TOKEN, WALLET) if is_live else (TOKEN,):
        path = folder / name
        if not path.is_file() or not path.read_bytes().strip():
            raise NotReady(f"the credential {name}")


def check_postgres(path: str, user: str, database: str) -> None:
    """Log in as the account that the unit runs as. Raises `NotReady`: a server that starts up, or was not migrated, refuses."""
    body = _PROTOCOL_3.to_bytes(4, "big") + b"\0".join((b"user", user.encode(), b"database", database.encode(), b"\0"))
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PROBE_S)
            connection.connect(path)
            connection.sendall((len(body) + 4).to_bytes(4, "big") + body)
            kind = b""
            while kind != b"Z":  # ReadyForQuery
                head = _read(connection, 5)
                kind, payload = head[:1], _read(connection, int.from_bytes(head[1:], "big") - 4)
                if kind == b"E":
                    fields = {part[:1]: part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}
                    raise NotReady(f"Postgres ({fields.get(b'M', 'no reason given')})")
                if kind == b"R" and payload[:4] != b"\0\0\0\0":
                    raise NotReady("Postgres (it asks for a password)")
            with suppress(OSError):  # a polite end; it has let us in
                connection.sendall(b"X\0\0\0\4")
    except OSError as error:
        raise NotReady(f"Postgres ({error.strerror or error})") from error


def check_geyser(host: str, port: int, *, tls: bool) -> None:
    """Shake hands over HTTP/2, as gRPC begins. Raises `NotReady`: a port that is open is not a service that answers."""
    try:
        with (
            socket.create_connection((host, port), timeout=_PROBE_S) as plain,
            _secured(plain, host, tls=tls) as stream,
        ):
            stream.sendall(_PREFACE)
            if _read(stream, 9)[3] != _SETTINGS:
                raise NotReady("Geyser (what answers is not HTTP/2)")
    except OSError as error:
        raise NotReady(f"Geyser ({error.strerror or error})") from error


def _secured(plain: socket.socket, host: str, *, tls: bool) -> socket.socket:
    if not tls:
        return plain
    import ssl  # noqa: PLC0415 - dear, and mostly not needed

    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain, server_hostname=host)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("it hung up")
        data += part
    return data


def notify(text: str) -> None:
    """Tell systemd; nothing where it did not ask to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


def wait(
    checks: tuple[Callable[[], None], ...],
    wait_s: float,
    *,
    say: Callable[[str], None] = notify,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Run the checks until all pass; False when that took longer than `wait_s`.

    Every second at first, every five seconds after a minute. Each new reason is logged once.
    """
    begin = clock()
    told: list[str] = []
    while True:
        missing = []
        for check in checks:
            try:
                check()
            except NotReady as reason:
                missing.append(str(reason))
        if not missing:
            return True
        say(f"WATCHDOG=1\nSTATUS=waits for {', '.join(missing)}")
        if missing != told:
            sys.stderr.write(f"waits for {', '.join(missing)}\n")
            told = missing
        if clock() - begin >= wait_s:
            return False
        sleep(1 if clock() - begin < 60 else 5)


def take_cpus(cpus: tuple[int, ...], count: int, take: Callable[[int, tuple[int, ...]], None]) -> None:
    """Put this process, and so the client, on the CPUs of the config; none leaves it on all. Raises `BadConfig`."""
    absent = [cpu for cpu in cpus if cpu >= count]
    if absent:
        raise BadConfig(f"cpus names {', '.join(map(str, absent))}, and the host has 0 to {count - 1}")
    if cpus:
        take(0, cpus)


def start(program: list[str], environment: Mapping[str, str]) -> int:
    """Wait and become the program; return the exit code of a wait in vain. Raises `BadConfig`."""
    config = parse_config(Path(environment["QTRADE_CLIENT_CONFIG"]).read_text())
    take_cpus(config.cpus, os.cpu_count() or 1, os.sched_setaffinity)
    folder = Path(environment["CREDENTIALS_DIRECTORY"])
    checks = (
        lambda: check_credentials(folder, is_live=config.is_live),
        lambda: check_postgres(
            environment["QTRADE_CLIENT_POSTGRES"],
            environment["QTRADE_CLIENT_DATABASE_USER"],
            environment["QTRADE_CLIENT_DATABASE"],
        ),
        lambda: check_geyser(config.geyser_host, config.geyser_port, tls=config.geyser_tls),
    )
    if wait(checks, float(environment["QTRADE_CLIENT_WAIT_S"])):
        notify("WATCHDOG=1\nSTATUS=")
        os.execv(program[0], program)  # noqa: S606 - the unit's own arguments
    return WAITED_IN_VAIN


if __name__ == "__main__":
    try:
        sys.exit(start(sys.argv[1:], os.environ))
    except BadConfig as error:
        notify(f"STATUS=refuses its config: {error}")
        sys.stderr.write(f"{error}; correct the values of qtrade_client_* and push\n")
        sys.exit(BAD_CONFIG)
