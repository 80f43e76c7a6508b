"""Put a bounded load on a host, judge what came of it, and keep that as a signed record of the image that it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flash.agent_link import AgentLink
from flash.bench.figures import Figures, judge_figures, rpc_figures
from flash.bench.guard import Load, LoadOrder, Origin, check_order, refuse_staked
from flash.bench.machine import Seen, look_at
from flash.bench.on_host.open_loop import Bounds
from flash.bench.on_host.rpc import METHODS
from flash.bench.programs import POSTGRES, STREAM, Program, missing, run_program
from flash.bench.rpc_from_here import load_from_here
from flash.bench.sent import run_on_host
from flash.inventory import environment_named, load_environment, load_host
from flash.ssh import operator_target, target_for
from flash.trust import load_installed
from qtrade.errors import Refused
from qtrade.manifest import Environment, Host, Image
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.ssh import SshTarget
from qtrade.store import Store, open_store
from qtrade.trust.attest import attest_bench, deploy_key
from qtrade.trust.fleet_facts import Bench
from qtrade.trust.keyring import Keyring, ensure_keyring

_WARM_UP_S = 2.0
_TELL_EVERY_S = 10.0
_MARGIN_S = 30.0
# Each is a connection, of which a process of the operator's has at most 1024.
_IN_FLIGHT = (64, 512)


@dataclass(frozen=True)
class Bed:
    """A host that is ready to be measured: what runs on it, what machine it is, and how it is reached."""

    settings: Settings
    host: Host
    environment: Environment
    image: Image
    seen: Seen
    operator: SshTarget
    reporter: Reporter

    def has_role(self, role: str) -> bool:
        """Whether the image has a layer of that role."""
        return any(layer.role == role for layer in self.image.layers)


@dataclass
class Progress:
    """Tells people every ten seconds how far a load is, and how long it will take."""

    name: str
    reporter: Reporter
    told: float = field(default_factory=time.monotonic)

    def tell(self, progress: dict[str, Any]) -> None:
        """Tell it, if the last time is a while ago; figures are a host's, and may be missing."""
        if time.monotonic() - self.told < _TELL_EVERY_S:
            return
        self.told = time.monotonic()
        sent, total, failed, left = (progress.get(name, "?") for name in ("sent", "total", "failed", "left_s"))
        self.reporter.say(f"… {self.name}: {sent} of {total}, {failed} failed, {left} s left"[:200])


def plan_load(settings: Settings, names: tuple[str, ...], order: LoadOrder) -> tuple[str, ...]:
    """Check that all hosts may be put under that much load, as far as manifests tell, and return their environments. Raises `Refused`."""
    environments = {load_host(settings, name).environment for name in names}
    for name in sorted(environments):
        check_order(order, environment_named(settings, name))
    return tuple(sorted(environments))


def bench_load(settings: Settings, name: str, order: LoadOrder, reporter: Reporter) -> Bench:
    """Put the load on a host, and return the record that was kept, also of a load that failed.

    Raises `Refused` for a host that is not to be put under load, `NotFound` without a key to sign with, `HostError`.
    """
    store, keyring = open_store(settings), ensure_keyring(settings)
    deploy_key(keyring)
    host = load_host(settings, name)
    check_order(order, load_environment(settings, host))
    bed = prepare_bed(settings, store, keyring, host, reporter)
    refuse_staked(store, host, bed.seen)
    if order.origin is Origin.HERE and bed.seen.rpc and bed.seen.rpc.is_loopback:
        raise Refused(
            f"{name}: its RPC listens on {bed.seen.rpc.bind} only",
            resolution="leave --from away: the load then comes from the host itself",
        )
    started = time.monotonic()
    figures = Figures()
    for kind in order.kinds:
        with reporter.step(f"{name}: {kind} load for {order.seconds} s"):
            figures = figures.plus(LOADS[kind](bed, order))
    said = make_record(bed, "load", figures, order.to_dict(), time.monotonic() - started)
    attest_bench(store, keyring, bed.image.id, said)
    return said


def prepare_bed(settings: Settings, store: Store, keyring: Keyring, host: Host, reporter: Reporter) -> Bed:
    """Ask a host what it runs and what it is. Raises `HostError`, `NotFound` for an image that the store does not have."""
    status = AgentLink(target_for(settings, host)).status()
    image = load_installed(store, host.recipe, status["version"], keyring.trust).image
    if image.id != status["image"]:
        raise Refused(
            f"{host.name} runs image {status['image'][:16]}, and {image.name} {image.version} of the store is {image.id[:16]}",
            resolution="flash the host",
        )
    operator = operator_target(settings, host)
    return Bed(settings, host, load_environment(settings, host), image, look_at(operator), operator, reporter)


def make_record(bed: Bed, kind: Any, figures: Figures, asked: dict[str, Any], seconds: float) -> Bench:
    """Return the record of a measurement. A load is judged, by the environment's limits too; a mere measurement has remarks."""
    reasons = judge_figures(figures, bed.environment.bench.limits) if kind == "load" else figures.reasons
    return Bench(
        kind=kind,
        host=bed.host.name,
        environment=bed.environment.name,
        recipe=bed.image.name,
        version=bed.image.version,
        hardware_class=bed.seen.hardware_class,
        at=int(time.time()),
        seconds=round(seconds, 1),
        metrics=dict(figures.metrics),
        missing=dict(figures.missing),
        asked=asked,
        passed=not reasons or kind != "load",
        reasons=reasons,
    )


def _load_rpc(bed: Bed, order: LoadOrder) -> Figures:
    rpc = bed.seen.rpc
    if rpc is None:
        return Figures(missing={"bench.rpc": "the image has no validator"})
    bounds = rpc_bounds(order, bed.environment.bench.error_share)
    progress = Progress(f"{bed.host.name}: rpc", bed.reporter)
    if order.origin is Origin.HERE:
        url = f"http://{bed.host.address}:{rpc.port}"
        return rpc_figures(load_from_here(url, bounds, METHODS, progress.tell))
    asked = {
        "host": "127.0.0.1" if rpc.bind == "0.0.0.0" else rpc.bind,  # noqa: S104 - asked, not bound
        "port": rpc.port,
        "methods": METHODS,
        "bounds": {
            "rps": bounds.rps,
            "seconds": bounds.seconds,
            "warm_up_s": bounds.warm_up_s,
            "in_flight": bounds.in_flight,
            "error_share": bounds.error_share,
        },
    }
    within_s = order.seconds + bounds.answer_s + _MARGIN_S
    done = run_on_host(bed.operator, ("open_loop", "rpc"), asked, within_s=within_s, on_progress=progress.tell)
    return rpc_figures(done)


def rpc_bounds(order: LoadOrder, error_share: float) -> Bounds:
    """Return the bounds of an RPC load: at most a tenth of it is not timed; answers of half a second are not too many at once."""
    warm_up_s = min(_WARM_UP_S, order.seconds / 10)
    in_flight = min(max(order.rps // 2, _IN_FLIGHT[0]), _IN_FLIGHT[1])
    return Bounds(order.rps, order.seconds, warm_up_s, in_flight, error_share)


def _load_stream(bed: Bed, order: LoadOrder) -> Figures:
    options = {"streams": order.streams, "seconds": order.seconds}
    return _run(bed, STREAM, options, order.seconds)


def _load_postgres(bed: Bed, order: LoadOrder) -> Figures:
    return _run(bed, POSTGRES, {"rate": order.writes, "seconds": order.seconds}, order.seconds)


def _run(bed: Bed, program: Program, options: dict[str, int], seconds: int) -> Figures:
    if not bed.has_role(program.role):
        return missing(program, f"the image has no {program.role}")
    return run_program(bed.operator, program, options, seconds=seconds)


LOADS: dict[Load, Callable[[Bed, LoadOrder], Figures]] = {
    Load.RPC: _load_rpc,
    Load.STREAM: _load_stream,
    Load.POSTGRES: _load_postgres,
}
