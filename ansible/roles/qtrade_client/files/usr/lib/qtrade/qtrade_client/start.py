"""Start the client once what it trades with is ready: Postgres lets it in, Geyser speaks HTTP/2, its credentials are there.

`start.py PROGRAM [ARGUMENT …]` is the unit's main process. It waits, says in the unit's status what for, keeps the watchdog quiet, puts
itself on the CPUs of the config, and becomes the program. So the unit counts as started while a validator catches up for an hour: neither
a boot nor a config push waits for it. Exit codes: 75 when it waited in vain (systemd begins anew), 78 for a config that cannot be meant
(systemd does not). Image facts come as environment variables of the unit, host facts from the config bundle, secrets as credentials.

Imports are few and cheap (no dataclasses, no ssl unless asked for): on a slow machine they are most of the cost.
"""

import json
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
INTERFACES = Path("/usr/share/qtrade/interfaces.d")
VALIDATOR = Path("/usr/lib/qtrade/agave/start.json")
HOST_CONFIG = Path("/run/qtrade/state/config/current")
# Who listens on all addresses is reached over loopback.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - read, not bound
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
    geyser: str
    geyser_tls: bool
    rpc: str


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
    address = str(geyser.get("address", ""))
    if address:
        split(address)
    rpc = fields.get("rpc")
    url = rpc.get("url", "") if isinstance(rpc, dict) else ""
    return Config(mode == "live", tuple(cpus), address, geyser.get("tls") is True, str(url))


def split(address: str) -> tuple[str, int]:
    """Return host and port. Raises `BadConfig`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadConfig(f"geyser.address is {address!r}, not host:port")
    return host.strip("[]"), int(port)


def find_geyser(interfaces: Path, host_config: Path) -> str:
    """Return where this host's own stream is served: as the host's config says, else the image. Raises `BadConfig`."""
    listen = _read(host_config / "geyser/host.json").get("listen") or []
    address = next((one for one in listen if not one.startswith("unix:")), "")
    if not address:
        address = "{bind}:{port}".format(**_interface(interfaces, "geyser", "grpc", "qtrade_client_geyser"))
    host, _, port = address.rpartition(":")
    return f"{_ANYWHERE.get(host, host)}:{port}"


def find_rpc(interfaces: Path, host_config: Path) -> str:
    """Return where this host's own JSON-RPC is: the image's port, at the address that the host's config binds. Raises `BadConfig`."""
    found = _interface(interfaces, "agave", "json-rpc", "qtrade_client_rpc")
    bind = _read(host_config / "agave/ready.json").get("rpc_bind") or found["bind"]
    reached = _ANYWHERE.get(bind, f"[{bind}]" if ":" in bind else bind)
    return f"http://{reached}:{found['port']}"


def _interface(interfaces: Path, role: str, name: str, value: str) -> dict[str, Any]:
    declared = _read(interfaces / f"{role}.json").get("interfaces", [])
    found: dict[str, Any] | None = next((one for one in declared if one["name"] == name), None)
    if found is None:
        raise BadConfig(f"this image has no {name} on TCP: {value} has to say where it is")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


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
                head = _receive(connection, 5)
                kind, payload = head[:1], _receive(connection, int.from_bytes(head[1:], "big") - 4)
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
            if _receive(stream, 9)[3] != _SETTINGS:
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


def _receive(connection: socket.socket, size: int) -> bytes:
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


def check_poh(cpus: tuple[int, ...], table: Path) -> None:
    """Raise `BadConfig` for the core that the image pins the validator's proof of history to; an image without a validator has none."""
    core = _read(table).get("poh_core")
    if core in cpus:
        raise BadConfig(f"cpus names {core}, which the validator of this image pins its proof of history to")


def start(program: list[str], environment: Mapping[str, str]) -> int:
    """Wait and become the program; return the exit code of a wait in vain. Raises `BadConfig`."""
    config = parse_config(Path(environment["QTRADE_CLIENT_CONFIG"]).read_text())
    check_poh(config.cpus, VALIDATOR)
    take_cpus(config.cpus, os.cpu_count() or 1, os.sched_setaffinity)
    # What the client is told: a port belongs to the role that listens there.
    addresses = {
        "QTRADE_CLIENT_GEYSER": config.geyser or find_geyser(INTERFACES, HOST_CONFIG),
        "QTRADE_CLIENT_RPC": config.rpc or find_rpc(INTERFACES, HOST_CONFIG),
    }
    geyser_host, geyser_port = split(addresses["QTRADE_CLIENT_GEYSER"])
    folder = Path(environment["CREDENTIALS_DIRECTORY"])
    checks = (
        lambda: check_credentials(folder, is_live=config.is_live),
        lambda: check_postgres(
            environment["QTRADE_CLIENT_POSTGRES"],
            environment["QTRADE_CLIENT_DATABASE_USER"],
            environment["QTRADE_CLIENT_DATABASE"],
        ),
        lambda: check_geyser(geyser_host, geyser_port, tls=config.geyser_tls),
    )
    if wait(checks, float(environment["QTRADE_CLIENT_WAIT_S"])):
        notify("WATCHDOG=1\nSTATUS=")
        os.execve(program[0], program, {**environment, **addresses})  # noqa: S606 - the unit's own arguments
    return WAITED_IN_VAIN


if __name__ == "__main__":
    try:
        sys.exit(start(sys.argv[1:], os.environ))
    except BadConfig as error:
        notify(f"STATUS=refuses its config: {error}")
        sys.stderr.write(f"{error}; correct the values of qtrade_client_* and push\n")
        sys.exit(BAD_CONFIG)
