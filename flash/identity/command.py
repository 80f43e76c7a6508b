"""`qtrade identity`: load, hold the hosts, move, and keep a record of it."""

import getpass
import json
import os
import socket
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from flash.identity.claims import Claims
from flash.identity.facts import Asked, Claim, Facts
from flash.identity.judge import Verdict, judge_before
from flash.identity.move import Mover, runs_it
from flash.identity.reach import Reach, load_keypair
from flash.inventory import IDENTITIES, load_host, load_identities
from flash.lease import lease
from qtrade.errors import BadInput, NotFound, QtradeError, Refused
from qtrade.manifest import Identity
from qtrade.redaction import redact
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store


@dataclass(frozen=True)
class Standing:
    """Who has an identity, what all its hosts and the cluster say, and whether a host could take it now."""

    identity: str
    claim: Claim | None
    facts: Facts
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "identity": self.identity,
            "claim": asdict(self.claim) if self.claim else None,
            "facts": {name: value for name, value in asdict(self.facts).items() if name != "claim"},
            "allowed": self.verdict.is_allowed,
            "reasons": [asdict(reason) for reason in self.verdict.reasons],
        }


@dataclass(frozen=True)
class How:
    """How a holder is stopped: by its power where it does not answer, and in a window without leader slots, for which it waits so long."""

    power_off: bool = False
    window_s: float = 0


def find_identity(settings: Settings, *, host: str | None = None, name: str | None = None) -> Identity:
    """Return the identity of that name, or the one that the host may hold. Raises `NotFound`, `BadInput`."""
    found = load_identities(settings)
    fit = [one for one in found if (name is None or one.name == name) and (host is None or host in one.hosts)]
    if len(fit) == 1:
        return fit[0]
    known = ", ".join(f"{one.name} ({', '.join(one.hosts)})" for one in found) or "none"
    wanted = " and ".join([*([f"called {name}"] if name else []), *([f"for host {host}"] if host else [])]) or "at all"
    if not fit:
        raise NotFound(
            f"there is no staked identity {wanted}",
            details=f"known: {known}",
            resolution=f"write {IDENTITIES}/NAME.yaml, with the host among its `hosts`",
        )
    raise BadInput(f"several identities fit: {', '.join(one.name for one in fit)}", resolution="add --identity NAME")


def show(settings: Settings, reporter: Reporter, identity: Identity, asked: Asked) -> Standing:
    """Look, and change nothing."""
    mover, _ = _prepare(settings, reporter, identity)
    claim = mover.claims.read(identity.address)
    facts = mover.gather(asked, claim)
    verdict = Verdict(()) if claim is not None and runs_it(claim, facts.candidate) else judge_before(facts)
    return Standing(identity.name, claim, facts, verdict)


def take(settings: Settings, reporter: Reporter, identity: Identity, asked: Asked, how: How) -> Claim:
    """Give the identity to a host. Raises the errors of `Mover.take`, and `ConflictError` where a host is held by another command."""
    mover, store = _prepare(settings, reporter, identity, how)
    # Nobody is stopped for a key that cannot be read.
    load_keypair(settings, identity)
    return _carry_out(mover, store, asked.host, "take", lambda: mover.take(asked))


def release(settings: Settings, reporter: Reporter, identity: Identity, host: str, how: How) -> Claim:
    """Make a host stop signing. Raises the errors of `Mover.release`, and `ConflictError` as `take`."""
    mover, store = _prepare(settings, reporter, identity, how)
    return _carry_out(mover, store, host, "release", lambda: mover.release(host))


def _prepare(
    settings: Settings,
    reporter: Reporter,
    identity: Identity,
    how: How = How(),
) -> tuple[Mover, Store]:
    store = open_store(settings)
    hosts = {name: load_host(settings, name) for name in identity.hosts}
    foreign = [host.name for host in hosts.values() if host.environment != identity.environment]
    if foreign:
        raise Refused(
            f"{', '.join(foreign)} is not of {identity.environment}, as the identity {identity.name} is",
            resolution="correct `hosts` of the identity, or the host's `environment`",
        )
    claims = Claims(store.objects)
    claim = claims.read(identity.address)
    named = (claim.host, claim.to, claim.votes.host if claim.votes else "") if claim else ()
    gone = sorted({host for host in named if host and host not in hosts})
    if gone:
        raise Refused(
            f"the identity {identity.name} is, or was last, with {', '.join(gone)}, which its manifest does not name",
            resolution=f"put {', '.join(gone)} among its `hosts` again until somebody else has it",
        )
    reach = Reach(settings, store, identity, hosts, reporter)
    return Mover(identity, claims, reach, how.power_off, how.window_s), store


def _carry_out(mover: Mover, store: Store, host: str, verb: str, act: Any) -> Claim:
    """Hold every host that a move may touch, and note how it ended."""
    reach = mover.world
    if not isinstance(reach, Reach):
        raise TypeError("a command moves the real world")
    claim = mover.claims.read(mover.identity.address)
    known = {claim.host, claim.votes.host if claim.votes else ""} if claim else set()
    names = sorted(({host} | known) & set(reach.hosts))
    with ExitStack() as stack:
        for name in names:
            reach.held[name] = stack.enter_context(lease(reach.settings, store, name, reach.reporter))
        try:
            done: Claim = act()
        except QtradeError as error:
            _note(reach.settings, mover.identity, verb, host, {"failed": error.brief, "details": error.details})
            raise
        _note(reach.settings, mover.identity, verb, host, {"claim": asdict(done)})
    return done


def _note(settings: Settings, identity: Identity, verb: str, host: str, outcome: dict[str, Any]) -> None:
    path = settings.state_dir / "identities" / f"{identity.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    line = {"at": round(time.time(), 3), "by": who, "verb": verb, "host": host, **outcome}
    with path.open("a") as sink:
        sink.write(redact(json.dumps(line, sort_keys=True)) + "\n")
        sink.flush()
        os.fsync(sink.fileno())
