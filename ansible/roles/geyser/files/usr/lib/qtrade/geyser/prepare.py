#!/usr/bin/python3 -ISB
"""Make the config that the validator's Geyser plugin is loaded with, before each start of the validator.

The image's part is /etc/yellowstone/base.json; the host's comes from its config generation; token and TLS key come as systemd credentials,
so that only tmpfs ever holds them. The key is laid by a unit of its own: the plugin takes a new one without a restart of the validator.
What would let the plugin crash the validator without a word is refused here, in words: keys that this version does not know, cores that
the host does not have, a plugin of another Agave, listeners that are names; and last of all whatever the release's own config-check does
not take.

    prepare.py            write /run/yellowstone/config.json
    prepare.py --tls      write certificate and key to /run/yellowstone-tls
    prepare.py --check F  only check the keys of F
"""
# Few imports, no pathlib: on a slow host each costs a tenth of a second of every start.
# ruff: noqa: PTH105, PTH108, PTH110, PTH113, PTH115, PTH123

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

BASE = "/etc/yellowstone/base.json"
HOST = "/run/qtrade/state/config/current/geyser/host.json"
KEYS = "/usr/share/qtrade/geyser/known_keys.json"
PLUGIN = "/opt/yellowstone/current"
VALIDATOR = "/opt/agave/current"
TARGET = "/run/yellowstone"
TLS = "/run/yellowstone-tls"
LOOPBACK = ("127.", "[::1]:", "unix://")
CHECK = f"{PLUGIN}/config-check"
# Under a second on hardware; what takes so long may be done in time at the next start.
CHECK_TIMEOUT_S = 120
# The key first: what the plugin reads in between is a pair that does not fit, which it does not take.
TLS_FILES = {"geyser_tls_key": "tls.key", "geyser_tls_cert": "tls.crt"}
TOKEN_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=")
TOKEN_SIZES = range(16, 513)
NO_SECRET = "none"  # noqa: S105 - what the unit sets where the credential store has nothing
BAD_CONFIG = 78  # EX_CONFIG of sysexits.h
TEMPORARY = 75  # EX_TEMPFAIL


class Refused(Exception):
    """The validator must not load its plugin so."""


def find_unknown(config: Any, known: Mapping[str, list[str]], at: str = "") -> Iterator[str]:
    """Yield the paths of keys that the plugin does not know. Below a path that the table does not have, anything goes."""
    if isinstance(config, list):
        for item in config:
            yield from find_unknown(item, known, f"{at}[]")
    elif isinstance(config, dict) and at in known:
        for key, value in config.items():
            path = f"{at}.{key}" if at else key
            if key not in known[at]:
                yield path
            else:
                yield from find_unknown(value, known, path)


def check_keys(config: Any, plugin: str, table: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Raise `Refused` for keys that this major version of Yellowstone refuses, and for a major that the table does not have."""
    major = plugin.partition(".")[0]
    if major not in table:
        known = ", ".join(sorted(name for name in table if name.isdigit()))
        raise Refused(
            f"no table of config keys for Yellowstone {major} (known: {known}): read its config.rs, then add one"
        )
    unknown = sorted(set(find_unknown(config, table[major])))
    if unknown:
        raise Refused(f"Yellowstone {major} does not know {', '.join(unknown)} and would not start")


def check_pair(plugin: str, validator: str) -> None:
    """Raise `Refused` when the plugin's folder names another minor version of Agave than the validator's."""
    wanted = plugin.partition("+solana.")[2]
    if wanted.split(".")[:2] != validator.split(".")[:2]:
        raise Refused(
            f"Yellowstone {plugin} was built for Agave {wanted}, but Agave {validator} is to load it: it would crash"
        )


def parse_cores(text: str) -> set[int]:
    """Return the cores of a list such as `0-3,8`. Raises `Refused`."""
    cores: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    except ValueError:
        raise Refused(f"geyser_tokio_affinity {text!r} is no list of cores such as 0-3,8") from None
    if not cores:
        raise Refused(f"geyser_tokio_affinity {text!r} names no core")
    return cores


def check_token(token: str) -> None:
    """Raise `Refused` for a token that a header cannot carry, or that is guessed too easily."""
    if len(token) not in TOKEN_SIZES or not set(token) <= TOKEN_LETTERS:
        raise Refused("the secret geyser_x_token is no token: 16 to 512 letters, digits and - . _ ~ + / = are")


def check_address(address: str) -> None:
    """Raise `Refused` for a listener that the plugin cannot parse: it resolves no names."""
    host, _, port = address.rpartition(":")
    # Only IPv6 stands in brackets, and always.
    is_ipv6 = host.startswith("[") and host.endswith("]")
    try:
        kind = ipaddress.IPv6Address if is_ipv6 else ipaddress.IPv4Address
        is_tcp = bool(kind(host[1:-1] if is_ipv6 else host)) and 0 < int(port) < 65536
    except ValueError:
        is_tcp = False
    if not is_tcp and not address.startswith("unix:///"):
        raise Refused(
            f"geyser_listen has {address!r}: write IP:PORT such as 127.0.0.1:10000, [ADDRESS]:PORT for IPv6, or unix:///PATH"
        )


def check_ports(addresses: list[str], baked: list[str]) -> None:
    """Raise `Refused` for a port beyond loopback that the image does not have: firewall and client know the image's only."""
    known = {item.rpartition(":")[2] for item in baked if not item.startswith("unix:")}
    for item in addresses:
        if not is_loopback(item) and item.rpartition(":")[2] not in known:
            raise Refused(
                f"geyser_listen names {item}, the image serves gRPC on port {', '.join(sorted(known)) or 'none'}"
            )


def check_overlap(addresses: list[str]) -> None:
    """Raise `Refused` for two listeners of which the second cannot be bound: one of all addresses leaves its port to no other.

    [::] takes IPv4 too, as Rust's TcpListener leaves IPV6_V6ONLY to the kernel, whose default is 0.
    """
    parts = [item.rpartition(":") for item in addresses if not item.startswith("unix:")]
    for host, _, port in parts:
        others = [other for other, _, same in parts if same == port and other != host]
        taken = others if host == "[::]" else [other for other in others if not other.startswith("[")]
        if host in ("[::]", "0.0.0.0") and taken:  # noqa: S104 - read, not bound
            raise Refused(f"geyser_listen names {host}:{port} and {taken[0]}:{port}, which that has taken: leave one")


def is_loopback(address: str) -> bool:
    """Return whether nobody but this host reaches the address."""
    return address.startswith(LOOPBACK)


def make_tls(host: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the listener's TLS part, None without TLS. Raises `Refused` when it is asked for and its parts are not there.

    Whoever renews the files writes over them: the plugin watches their inodes (its file_watcher.rs) and takes new ones without a restart.
    """
    mode = host.get("tls", "off")
    if mode == "off":
        return None
    if mode not in ("files", "credentials"):
        raise Refused(f"geyser_tls is {mode!r}: off, credentials and files are known")
    pair = {"cert_path": f"{TLS}/tls.crt", "key_path": f"{TLS}/tls.key"}
    if mode == "files":
        pair = {"cert_path": host.get("tls_cert_file", ""), "key_path": host.get("tls_key_file", "")}
    missing = [path for path in pair.values() if not os.path.isfile(path)]
    if missing and mode == "credentials":
        raise Refused("TLS from credentials: geyser_tls_cert and geyser_tls_key are not in the credential store")
    if missing:
        raise Refused(f"TLS from files: {missing[0] or 'no path'} is not there")
    return {"identity": pair, "watch_file": True}


def make_config(
    base: dict[str, Any], host: Mapping[str, Any], secrets: Mapping[str, str | None], cores: int
) -> tuple[dict[str, Any], list[str]]:
    """Return the plugin's config and what people should know of it. Raises `Refused`.

    Beyond loopback nothing is served without a token, nor without the TLS that was asked for: such a listener falls back to loopback.
    """
    config, notes = json.loads(json.dumps(base)), []
    grpc = config["grpc"]
    addresses = list(host.get("listen") or [item["address"] for item in grpc["listen"]])
    for address in addresses:
        check_address(address)
    check_ports(addresses, [item["address"] for item in grpc["listen"]])
    token, tls = secrets.get("geyser_x_token"), None
    if token:
        check_token(token)
        grpc["x_token"] = token
    try:
        tls = make_tls(host)
        reason = "" if token else "the secret geyser_x_token is not there"
    except Refused as error:
        reason = str(error)
    if reason:
        notes.append(f"{reason}: gRPC is served on loopback only")
        addresses = [item if is_loopback(item) else f"127.0.0.1:{item.rpartition(':')[2]}" for item in addresses]
    check_overlap(addresses)
    grpc["listen"] = [{"address": item, **({"tls": tls} if tls else {})} for item in dict.fromkeys(addresses)]
    if host.get("tokio_affinity"):
        above = max(parse_cores(host["tokio_affinity"]))
        if above >= cores:
            raise Refused(f"geyser_tokio_affinity names core {above}, the host has 0 to {cores - 1}")
        config.setdefault("tokio", {})["affinity"] = host["tokio_affinity"]
    if host.get("tokio_worker_threads"):
        config.setdefault("tokio", {})["worker_threads"] = host["tokio_worker_threads"]
    return config, notes


def read_json(path: str, default: Any = None) -> Any:
    """Return a JSON document, or the default where there is no such file."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        if default is None:
            raise
        return default


def read_secrets(folder: str, *names: str) -> dict[str, str | None]:
    """Return credentials of the unit; None for those that the store does not have."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            with open(f"{folder}/{name}", encoding="utf-8") as stream:
                text = stream.read().strip()
        except FileNotFoundError:
            text = NO_SECRET
        found[name] = None if text in ("", NO_SECRET) else text
    return found


def run_config_check(path: str, secrets: Mapping[str, str | None], program: str = CHECK) -> None:
    """Raise `Refused` with what the release's own program says when it does not take the config."""
    if not os.path.exists(program):
        return
    done = subprocess.run(
        [program, "--config", path], capture_output=True, text=True, check=False, timeout=CHECK_TIMEOUT_S
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-500:]
        for value in secrets.values():
            said = said.replace(value, "...") if value else said
        raise Refused(f"config-check does not take the config: {said or f'exit code {done.returncode}'}")


def write_private(path: str, text: str) -> None:
    """Write a file that only its owner reads, in one step."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(f"{path}.new", path)


def prepare() -> None:
    """Write the plugin's config. Raises `Refused`."""
    plugin, validator = os.readlink(PLUGIN), os.readlink(VALIDATOR)
    check_pair(plugin, validator)
    secrets = read_secrets(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), "geyser_x_token")
    cores = max(os.sched_getaffinity(0)) + 1
    config, notes = make_config(read_json(BASE), read_json(HOST, {}), secrets, cores)
    check_keys(config, plugin, read_json(KEYS))
    write_private(f"{TARGET}/config.json", json.dumps(config, indent=1) + "\n")
    run_config_check(f"{TARGET}/config.json", secrets)
    for note in notes:
        sys.stderr.write(f"<4>{note}\n")


def lay_tls(folder: str) -> None:
    """Write certificate and key over what is in the folder, in place, if they are other ones; with one of them missing, neither is left."""
    secrets = read_secrets(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), *TLS_FILES)
    for name, file in TLS_FILES.items():
        path = f"{folder}/{file}"
        if None in secrets.values():
            if os.path.exists(path):
                os.unlink(path)
            continue
        text = f"{secrets[name]}\n"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as stream:
            if stream.read() != text:
                stream.seek(0)
                stream.truncate()
                stream.write(text)


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    try:
        if arguments[:1] == ["--check"]:
            check_keys(
                read_json(arguments[1]), os.environ.get("GEYSER_VERSION") or os.readlink(PLUGIN), read_json(KEYS)
            )
        elif arguments == ["--tls"]:
            lay_tls(TLS)
        else:
            prepare()
    except subprocess.TimeoutExpired as error:
        sys.stderr.write(f"<3>geyser: {error}\n")
        return TEMPORARY
    except (Refused, OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"<3>geyser: {error}\n")
        return BAD_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
