"""Look at hosts: one SSH round trip and the driver's facts each, many hosts side by side."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from flash.agent_link import AgentLink
from flash.drift.access import host_key_changed
from flash.drift.compare import compare
from flash.drift.expected import expect
from flash.drift.findings import Finding, Ignored, Remedy
from flash.drift.ignores import expired, load_ignores, split_ignored
from flash.drift.observation import Observation, parse_observation
from flash.drift.provider import compare_provider
from flash.host_keys import read_pinned
from flash.inventory import list_hosts, load_environment, load_host
from flash.manual_access import ManualAccess, recent
from flash.ssh import target_for
from flash.trust import check_not_revoked
from qtrade.errors import BadInput, NotFound, QtradeError, Refused
from qtrade.manifest import DriftKind, Environment, Host
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.images import load_trusted
from qtrade.trust.keyring import load_keyring

_AT_ONCE = 32
_OBSERVE_S = 60.0
# What OpenSSH says of another key than the pinned one, as `qtrade.ssh.unreachable` words it.
_OTHER_KEY = "shows another SSH host key"


@dataclass(frozen=True)
class HostReport:
    """What was found on one host. `drifted` is false where everything that differs is ignored.

    `accesses` tells which people were on it lately: no drift by itself, but where drift may come from.
    """

    host: str
    environment: str
    version: str
    findings: tuple[Finding, ...]
    ignored: tuple[Ignored, ...]
    expired_ignores: tuple[str, ...]
    at: float
    took_s: float
    boot_id: str = ""
    drained: tuple[str, ...] = ()
    accesses: tuple[ManualAccess, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether anything differs that nobody decided to live with."""
        return bool(self.findings)


def choose_hosts(settings: Settings, host: str | None, environment: str | None) -> tuple[Host, ...]:
    """Return the host, or all hosts of the environment. Raises `NotFound` when there are none, `BadInput`."""
    if host is not None:
        return (load_host(settings, host),)
    every = [load_host(settings, name) for name in list_hosts(settings)]
    found = tuple(one for one in every if one.environment == environment)
    if not found:
        raise NotFound(
            f"environment {environment} has no hosts",
            details=f"hosts are of: {', '.join(sorted({one.environment for one in every})) or 'none'}",
            resolution="correct --env, or write a manifest in manifests/hosts",
        )
    return found


def look_at_all(settings: Settings, hosts: Sequence[Host], *, at_once: int = _AT_ONCE) -> tuple[HostReport, ...]:
    """Look at all hosts side by side, and return their reports in the same order."""
    looker = Looker(settings)
    with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(hosts)))) as pool:
        return tuple(pool.map(looker.look, hosts))


class Looker:
    """What looks at hosts share: the store, the trust set, and the clock, by which entries of ignore lists expire."""

    def __init__(self, settings: Settings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._store = open_store(settings)
        self._trust = load_keyring(settings).trust
        self._now = now

    def look(self, host: Host) -> HostReport:
        """Look at one host. What cannot be asked is a finding, and hides nothing of the rest. Raises `BadInput`, `NotFound`."""
        start = self._now()
        environment = load_environment(self._settings, host)
        ignores = load_ignores(self._settings, environment.name)
        observation, findings = self._observe(host, environment)
        findings += compare_provider(self._settings, host, environment.drift)
        today = datetime.fromtimestamp(start, UTC).date()
        counted, ignored = split_ignored(host.name, findings, ignores, today)
        return HostReport(
            host=host.name,
            environment=environment.name,
            version=observation.image.version if observation and observation.image else "",
            findings=counted,
            ignored=ignored,
            expired_ignores=expired(ignores, today),
            at=round(start, 3),
            took_s=round(self._now() - start, 3),
            boot_id=observation.boot_id if observation else "",
            drained=observation.units.drained if observation and observation.units else (),
            accesses=recent(self._settings, host.name, now=start),
        )

    def _observe(self, host: Host, environment: Environment) -> tuple[Observation | None, tuple[Finding, ...]]:
        try:
            text = AgentLink(target_for(self._settings, host)).observe(timeout_s=_OBSERVE_S)
            observation = parse_observation(text, host.name)
        except QtradeError as error:
            return None, tuple(self._unreachable(host, error))
        return observation, tuple(self._compare(host, environment, observation))

    def _compare(self, host: Host, environment: Environment, observation: Observation) -> Iterator[Finding]:
        if observation.image is None:
            yield _unobserved("image", observation.errors.get("image", ""), "")
            return
        version = observation.image.version
        try:
            image = load_trusted(self._store.read(host.recipe, version), host.recipe, version, self._trust).image
        except QtradeError as error:
            # Without the image's own document, nothing can be said of the host.
            yield _unobserved("image", f"{host.recipe} {version}: {error.brief}", error.resolution)
            return
        try:
            check_not_revoked(self._store, image.id, self._trust)
        except Refused as error:
            yield Finding(
                DriftKind.IMAGE, "revoked", f"{host.recipe} {version} was revoked", Remedy.HAND, "", error.details or error.brief,
                "flash another version, or roll the host back",
            )  # fmt: skip
        try:
            expected = expect(self._settings, host, environment, image)
        except BadInput as error:
            # One host's manifest must not hide the drift of all others.
            yield _unobserved("config", f"{error.brief} {error.details}".strip(), error.resolution)
            return
        yield from compare(expected, observation)

    def _unreachable(self, host: Host, error: QtradeError) -> Iterator[Finding]:
        if _OTHER_KEY in error.brief:
            yield host_key_changed(read_pinned(self._settings, host.name), "another one")
        yield _unobserved("host", f"{error.brief} {error.details}".strip(), error.resolution)


def _unobserved(subject: str, found: str, hint: str) -> Finding:
    return Finding(DriftKind.UNOBSERVED, subject, "nobody could look", Remedy.HAND, found=found, hint=hint)
