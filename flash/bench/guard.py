"""Which hosts may be put under load, and how much of it. Pure but for the claims in the store."""

from dataclasses import dataclass
from enum import StrEnum

from flash.bench.machine import Seen
from flash.identity.guard import refuse_holder
from qtrade.errors import Refused
from qtrade.manifest import Environment, Host
from qtrade.store import Store

MAX_REQUESTS = 2_000_000


class Load(StrEnum):
    """The kinds of load."""

    RPC = "rpc"
    STREAM = "stream"
    POSTGRES = "postgres"


class Origin(StrEnum):
    """Where RPC requests come from: the host itself (its validator alone), or this machine (the network too)."""

    HOST = "host"
    HERE = "here"


@dataclass(frozen=True)
class LoadOrder:
    """What was asked for: each kind for `seconds`, one after another. `writes` are rows a second, `streams` subscriptions."""

    kinds: tuple[Load, ...] = tuple(Load)
    seconds: int = 60
    rps: int = 50
    streams: int = 4
    writes: int = 50
    origin: Origin = Origin.HOST

    def to_dict(self) -> dict[str, object]:
        """Return what a record keeps of it."""
        return {
            "kinds": [kind.value for kind in self.kinds],
            "seconds": self.seconds,
            "rps": self.rps,
            "streams": self.streams,
            "writes": self.writes,
            "origin": self.origin.value,
        }


def check_order(order: LoadOrder, environment: Environment) -> None:
    """Raise `Refused` for more than the environment's bounds, and in one that allows no load."""
    rules = environment.bench
    allowed = environment.name != "production" if rules.allow_load is None else rules.allow_load
    if not allowed:
        raise Refused(
            f"{environment.name} allows no load on its hosts",
            details="what is measured there, customers feel",
            resolution=f"measure a host of staging; or set bench.allow_load in the manifest of {environment.name}",
        )
    beyond = [
        f"{name} is {asked}, {environment.name} allows {bound}"
        for name, asked, bound in (
            ("--for", order.seconds, rules.max_seconds),
            ("--rps", order.rps, rules.max_rps),
            ("--writes", order.writes, rules.max_rps),
            ("the number of requests", order.rps * order.seconds, MAX_REQUESTS),
        )
        if asked > bound
    ]
    if beyond:
        raise Refused(
            f"that is more load than {environment.name} allows: {beyond[0]}",
            details="\n".join(f"  {line}" for line in beyond),
            resolution="ask for less; bench.max_rps and bench.max_seconds of the environment are the bounds",
        )


class StakedHost(Refused):
    """A host that signs with stake, or may: where all hosts of an environment are meant, it is passed over."""


def refuse_staked(store: Store, host: Host, seen: Seen) -> None:
    """Raise `StakedHost` for a host that votes with stake, holds a staked identity, or is a validator and does not tell."""
    try:
        refuse_holder(store, host.name)
    except Refused as held:
        raise StakedHost(held.brief, details=held.details, resolution=held.resolution) from held
    if seen.stake:
        raise StakedHost(
            f"{host.name} votes with a stake of {seen.stake} lamports: it is put under no load",
            resolution="measure a host without stake; `qtrade identity show` says who holds one",
        )
    if host.role == "validator" and seen.stake is None:
        raise StakedHost(
            f"{host.name} is a validator and does not tell whether it has stake: it is put under no load",
            details=seen.stake_problem,
            resolution="wait until its RPC answers getIdentity and getVoteAccounts; or measure an RPC host",
        )
