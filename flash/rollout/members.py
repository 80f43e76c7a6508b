"""The hosts of a rollout, with what its policy goes by: class, provider account, role, and who takes over."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flash.inventory import list_hosts, load_host
from qtrade.errors import NotFound, Refused
from qtrade.manifest import Environment, Host
from qtrade.manifest.base import HostRole
from qtrade.settings import Settings


@dataclass(frozen=True)
class Member:
    """A host. `account` is what its provider counts calls by, empty where there is none; `partner` takes over while it is down."""

    name: str
    provider: str
    hardware: str
    role: HostRole
    account: str = ""
    partner: str = ""

    @property
    def class_name(self) -> str:
        """Return what hosts have in common that a release may be bad for."""
        return f"{self.provider}/{self.hardware}/{self.role}"


def member_of(host: Host, environment: Environment) -> Member:
    """Return a host as a member. Hosts with the same reference to a provider's key are of one account."""
    key = next((getattr(host.driver, name) for name in ("token", "client_id") if hasattr(host.driver, name)), "")
    kind = host.driver.kind
    partner = environment.failover.get(host.name, "")
    return Member(host.name, kind, host.hardware_class, host.role, f"{kind} {key}" if key else "", partner)


@dataclass(frozen=True)
class Fleet:
    """The hosts of an environment that run images of `recipe`; `others` counts those of other recipes by role."""

    recipe: str
    members: tuple[Member, ...]
    others: dict[HostRole, int]
    first: Host


def find_fleet(settings: Settings, environment: Environment, recipe: str | None) -> Fleet:
    """Return the fleet of a recipe. Raises `NotFound`, or `Refused` where several recipes could be meant."""
    every = [load_host(settings, name) for name in list_hosts(settings)]
    own = [host for host in every if host.environment == environment.name]
    recipes = sorted({host.recipe for host in own})
    if not own:
        raise NotFound(
            f"environment {environment.name} has no hosts",
            resolution="name another one, or write `environment` into a host's manifest",
        )
    if recipe is None and len(recipes) > 1:
        raise Refused(
            f"the hosts of {environment.name} run images of {', '.join(recipes)}", resolution="name one with --recipe"
        )
    chosen = recipe or recipes[0]
    meant = [host for host in own if host.recipe == chosen]
    if not meant:
        raise NotFound(
            f"no host of {environment.name} runs images of {chosen}", resolution=f"name one of {', '.join(recipes)}"
        )
    others = Counter(host.role for host in own if host.recipe != chosen)
    return Fleet(chosen, tuple(member_of(host, environment) for host in meant), dict(others), meant[0])


def by_class(members: Sequence[Member]) -> Mapping[str, tuple[Member, ...]]:
    """Return the members of each class, classes and members by name."""
    found: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda one: (one.class_name, one.name)):
        found.setdefault(member.class_name, []).append(member)
    return {name: tuple(own) for name, own in found.items()}
