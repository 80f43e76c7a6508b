"""What the project must have: manifests that can be read, keys that nobody else can read, a store, tools, tokens."""

import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flash.inventory import environment_named, list_environments, list_hosts, load_host
from flash.secrets.check import SecretState, check_driver
from qtrade.errors import QtradeError
from qtrade.manifest import Host
from qtrade.manifest.driver import RedfishDriver
from qtrade.process import as_root
from qtrade.settings import S3Address, Settings
from qtrade.toolsroot import has_tools
from qtrade.trust.keyring import load_keyring
from qtrade.upkeep.check import Check, good, missing, warning
from qtrade.upkeep.versions import find_packer

_DAY_S = 86400
_SOON_DAYS = 30


def check_project(
    settings: Settings, hosts: tuple[Host, ...], read: tuple[Check, ...], *, online: bool
) -> Iterator[Check]:
    """Give the checks of the project; `load_hosts` gives the hosts and `read`.

    References into HashiCorp Vault are followed only `online`.
    """
    yield _keys(settings)
    yield from _private_files(settings, hosts)
    yield _store(settings)
    yield _tools(settings)
    yield _packer(settings)
    yield from read
    yield from _environments(settings)
    yield from _tokens(settings, hosts, online=online)


def load_hosts(settings: Settings) -> tuple[tuple[Host, ...], tuple[Check, ...]]:
    """Return the hosts whose manifests can be read, and checks of them all."""
    hosts, checks = [], []
    names = list_hosts(settings)
    for name in names:
        try:
            hosts.append(load_host(settings, name))
        except QtradeError as error:
            checks.append(missing(f"host {name}", f"{error.brief} {error.details}".strip(), error.resolution))
    if not names:
        checks.append(warning("hosts", "no manifest yet", "qtrade init"))
    elif not checks:
        checks.append(good("hosts", f"{len(names)} manifests"))
    return tuple(hosts), tuple(checks)


def _keys(settings: Settings) -> Check:
    try:
        keyring = load_keyring(settings)
    except QtradeError as error:
        if not (settings.keys_dir / "trust.json").exists():
            return warning(
                "keys", "none yet: the first bake makes a lab's, good for development only", "qtrade keys init"
            )
        return missing("keys", f"{error.brief} {error.details}".strip(), error.resolution)
    days = int((keyring.trust.expires - time.time()) // _DAY_S)
    found = f"trust set {keyring.trust.sequence}{' of a lab' if keyring.trust.lab else ''}, good for {days} days"
    if days < 0:
        return missing("keys", found, "qtrade keys renew")
    return warning("keys", found, "qtrade keys renew") if days < _SOON_DAYS else good("keys", found)


def _private_files(settings: Settings, hosts: tuple[Host, ...]) -> Iterator[Check]:
    """Look at who may read what is private: keys, passwords of BMCs, keys that log in."""
    folder = settings.keys_dir
    own = [folder, *sorted(folder.glob("*.key")), folder / "lab-secrets.yml"]
    named: dict[Path, str] = {}
    for host in hosts:
        files = (host.ssh.identity_file, host.ssh.operator_identity_file)
        named |= {path: f"host {host.name}: ssh" for path in files if path is not None}
        if isinstance(host.driver, RedfishDriver):
            named[host.driver.password_file] = f"host {host.name}: driver.password_file"
    problems = [check for path in own if path.exists() for check in _private(path, "keys")]
    for path, where in named.items():
        if path.is_file():
            problems += _private(path, where)
        else:
            problems.append(
                missing("private files", f"{where}: there is no {path}", "put it there, or correct the manifest")
            )
    yield from problems or (
        good("private files", f"{len(named) + len([one for one in own if one.exists()])}, read by their owner alone"),
    )


def _private(path: Path, where: str) -> Iterator[Check]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        wanted = "700" if path.is_dir() else "600"
        yield missing("private files", f"{where}: {path} has mode {mode:04o}", f"chmod {wanted} {path}")


def _store(settings: Settings) -> Check:
    store = settings.store
    if isinstance(store, S3Address):
        return good("store", f"{store}; asked with --online only")
    if not store.exists():
        return good("store", f"{store}, made by the first bake")
    try:
        with tempfile.TemporaryFile(dir=store) as probe:
            probe.write(b"\0" * 65536)
            probe.flush()
    except OSError as error:
        cure = "qtrade images gc --dry-run shows what may go; or set QTRADE_STORE to another folder"
        return missing("store", f"{store} cannot be written to: {error.strerror}", cure)
    return good("store", str(store))


def _tools(settings: Settings) -> Check:
    if has_tools(settings.tools_dir.resolve()):
        return good("tools root", str(settings.tools_dir.resolve()))
    return warning("tools root", "none: labs, exports and boot tests need it, a bake makes it", as_root("qtrade tools"))


def _packer(settings: Settings) -> Check:
    program = find_packer(settings)
    if program is not None:
        return good("Packer", str(program))
    return warning(
        "Packer", "none: the first bake unpacks Debian 12's", "nothing to do; one on the PATH is taken first"
    )


def _environments(settings: Settings) -> Iterator[Check]:
    names, is_good = list_environments(settings), True
    for name in names:
        try:
            environment_named(settings, name)
        except QtradeError as error:
            is_good = False
            yield missing(f"environment {name}", f"{error.brief} {error.details}".strip(), error.resolution)
    if is_good:
        yield good("environments", ", ".join(names) or "none")


def _tokens(settings: Settings, hosts: tuple[Host, ...], *, online: bool) -> Iterator[Check]:
    count = 0
    for host in hosts:
        try:
            rows = check_driver(settings, host, online=online)
        except QtradeError:
            continue  # its environment is told of already
        count += len(rows)
        for row in rows:
            if row.state in (SecretState.BROKEN, SecretState.EXPIRED):
                yield missing("provider tokens", f"{row.where}: {row.told}", row.cure)
            elif row.state is not SecretState.GOOD:
                yield warning("provider tokens", f"{row.where}: {row.told}", row.cure)
    if not count:
        yield good("provider tokens", "no manifest refers to one")
