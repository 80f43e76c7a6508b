"""Push: render the host's config, send what has changed, and prove that it holds. Nothing else changes a host between flashes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from flash.access import Evidence, HostAccess, held_access
from flash.config import Bundle, read_bundle, render_bundle
from flash.confirmation import send_and_confirm
from flash.deploys import recorded_deploy
from flash.generations import next_generation
from flash.identity.guard import SIGNER, refuse_holder
from flash.inventory import load_environment, load_host
from flash.push_plan import Held, PushPlan, SecretChanges, plan_push
from flash.secrets import resolve_secrets
from flash.sent_secrets import SentSecrets, sent_secrets
from flash.ssh_checks import check_keeps_access
from flash.trust import load_installed
from qtrade.errors import HostError, NotFound
from qtrade.manifest import Image
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.ssh import StartedCommand
from qtrade.store import open_store
from qtrade.store.history import Ending, Kind, Outcome
from qtrade.trust.keyring import ensure_keyring

# How long a host waits for a new connection before it takes back what may have cut it off.
TRIAL_S = 90


@dataclass(frozen=True)
class PushResult:
    """What a push did: the generation, the units that it restarted or reloaded, the secrets that it sent, what waits for a reboot.

    `confirmed` says that the host was reached anew after a change that could have cut it off; `changed` that anything was sent.
    """

    host: str
    generation: str
    units: tuple[str, ...]
    secrets: tuple[str, ...]
    reboot_needed: tuple[str, ...] = ()
    confirmed: bool = False
    changed: bool = True


@dataclass(frozen=True)
class Order:
    """What is asked for: the manifests' config, or with `rollback` an earlier generation, the one before if `to` is empty.

    With `secret`, only the secret of that name is sent, and the config stays as the host has it.
    """

    rollback: bool = False
    to: str = ""
    secret: str = ""


@dataclass(frozen=True)
class Prepared:
    """A push that was planned and of which nothing was sent yet; `started` is an agent that waits for it on the host."""

    access: HostAccess
    plan: PushPlan
    status: Evidence
    bundle: Bundle
    secrets: Mapping[str, bytes]
    sent: SentSecrets
    started: StartedCommand | None = None


def push(settings: Settings, host_name: str, reporter: Reporter) -> PushResult:
    """Push config and secrets to a running host. Raises `HostError` when the host does not take them."""
    with (
        held_access(settings, open_store(settings), load_host(settings, host_name), reporter) as access,
        planned_push(access) as planned,
    ):
        return carry_out(planned)


@contextmanager
def planned_push(access: HostAccess, order: Order | None = None) -> Iterator[Prepared]:
    """As `prepare`, for what is to be carried out within the context: an agent starts on the host meanwhile, and waits for it."""
    access.check_login()
    with access.link.ready() as started:
        yield replace(prepare(access, order), started=started)


def prepare(access: HostAccess, order: Order | None = None) -> Prepared:
    """Look at the host and plan; whatever is wrong with the manifests is found here. Raises `BadInput`, `NotFound`, `HostError`."""
    settings, host = access.settings, access.host
    order = order or Order()
    environment = load_environment(settings, host)
    with access.reporter.step(f"look at {host.name}"):
        status = access.link.config()
    if status["state"] != "persistent":
        raise HostError(
            f"{host.name} runs without its state partition: what is pushed now would be gone after the next boot",
            resolution="repair the partition, or flash the host, then push",
        )
    keyring = ensure_keyring(settings)
    image = load_installed(access.store, host.recipe, status["version"], keyring.trust).image
    if image.id != status["image"]:
        raise HostError(
            f"{host.name} runs image {status['image'][:16]}…, which is not {host.recipe} {status['version']} of this store",
            resolution="use the store that the host was flashed from",
        )
    generation = status["generation"]
    bundle = _held(status, generation)
    held = Held(generation, bundle, frozenset(status.get("altered") or ()))
    sent = sent_secrets(settings, host.name, keyring.signer("job"))
    if order.rollback:
        to = _earlier(status, host.name, image, order.to)
        wanted = _held(status, to)
        if wanted is None:
            raise HostError(f"{host.name} does not show generation {to}", resolution="push instead")
        plan = plan_push(image, held, wanted, to=to)
        return Prepared(access, plan, status, wanted, {}, sent)
    stamps = status.get("secret_stamps")
    if order.secret:
        if bundle is None or not _is_settled(status):
            raise HostError(
                f"{host.name} has no settled config", resolution=f"run `qtrade push --host {host.name}` first"
            )
        secrets = resolve_secrets(settings, host, image, only=order.secret)
        only = SecretChanges(sent.reasons(secrets, stamps))
        plan = plan_push(image, Held(generation, bundle), bundle, secrets=only)
        return Prepared(access, plan, status, bundle, {name: secrets[name] for name in only.reasons}, sent)
    target = access.link.target
    check_keeps_access(environment, host, target.user, target.identity_file)
    wanted = render_bundle(host, environment, image)
    secrets = resolve_secrets(settings, host, image)
    changes = SecretChanges(sent.reasons(secrets, stamps), _forgotten(image, secrets, stamps or {}))
    plan = plan_push(image, held, wanted, secrets=changes)
    return Prepared(access, plan, status, wanted, {name: secrets[name] for name in changes.reasons}, sent)


def carry_out(prepared: Prepared) -> PushResult:
    """Do what was planned, and prove it.

    Raises `HostError` when the host does not take it, or took it back, and `Refused` when a validator that signs would be restarted.
    """
    access, status = prepared.access, prepared.status
    host = access.host.name
    if _has_all(prepared):
        waits = tuple(status.get("reboot_needed", ()))
        return PushResult(host, status["generation"], (), (), reboot_needed=waits, changed=False)
    if any(unit.name == SIGNER for unit in prepared.plan.units):
        refuse_holder(access.store, host)
    plan = prepared.plan
    inputs = {
        "before": status["generation"],
        "to": plan.to,
        "files": sorted(file.path for file in plan.files),
        "secrets": sorted(prepared.secrets),
        "forget": sorted(plan.forget),
    }
    version, image = plan.version, status["image"]
    with recorded_deploy(access, Kind.PUSH, version=version, image=image, inputs=inputs) as progress:
        result = _push_to_older(prepared) if "kept" not in status else _send_and_prove(prepared)
        progress.ending = Ending(Outcome.DONE, version=version, image=image, generation=result.generation)
    return result


def _send_and_prove(prepared: Prepared) -> PushResult:
    """Send, and see that the host has what was sent. Raises `HostError`."""
    host = prepared.access.host.name
    with prepared.access.reporter.step(f"push to {host}"):
        generation, report = _send(prepared)
    prepared.sent.note(prepared.secrets, report.get("stamps", {}))
    reached = report.get("generation", generation)
    if reached != generation:
        raise HostError(f"{host} runs config generation {reached}, not {generation}")
    return PushResult(
        host,
        generation,
        tuple(report.get("units", [unit.name for unit in prepared.plan.units])),
        tuple(prepared.secrets),
        reboot_needed=tuple(report.get("reboot_needed", ())),
        confirmed=bool(report.get("waits_s")),
    )


def _send(prepared: Prepared) -> tuple[str, Evidence]:
    """Send the one job that the plan takes; return the generation that is to be current then, and the report."""
    access, plan, status = prepared.access, prepared.plan, prepared.status
    if not plan.files and not plan.to and _is_settled(status):
        job = access.jobs.secrets(prepared.secrets, forget=plan.forget)
        return status["generation"], access.link.run(job, started=prepared.started)
    if plan.to:
        job, generation = access.jobs.restore(plan.to, confirm_within_s=TRIAL_S), plan.to
    else:
        generation = str(next_generation(access.settings, plan.host, seen=_highest(status)))
        envelope = prepared.bundle.envelope(int(generation), access.jobs.key)
        job = access.jobs.apply(envelope, values=prepared.secrets, forget=plan.forget, confirm_within_s=TRIAL_S)
    report = send_and_confirm(
        access,
        job,
        generation,
        within_s=TRIAL_S,
        started=prepared.started,
        has_verb="confirm" in status.get("verbs", ()),
    )
    return generation, report


def _forgotten(image: Image, secrets: Mapping[str, bytes], stamps: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets that the host has for the image that it runs, and that its manifest does not name; other images' stay."""
    declared = {secret.name for inputs in image.inputs.values() for secret in inputs.secrets}
    return tuple(sorted(declared & set(stamps) - set(secrets)))


def _has_all(prepared: Prepared) -> bool:
    return prepared.plan.is_empty and _is_settled(prepared.status)


def _is_settled(status: Evidence) -> bool:
    """Say whether the running image boots with the current generation; older agents do not say."""
    generations: Mapping[str, str] = status.get("generations", {status["image"]: status["generation"]})
    return bool(status["generation"]) and generations.get(status["image"]) == status["generation"]


def _held(status: Evidence, generation: str) -> Bundle | None:
    bundles: Mapping[str, Any] = status.get("bundles") or {}
    return read_bundle(bundles[generation]) if generation in bundles else None


def _highest(status: Evidence) -> str:
    """Return the highest number that the host keeps: after a rollback it is not the current one."""
    numbers = [int(one) for one in (status["generation"], *status.get("kept", {})) if one.isdigit()]
    return str(max(numbers, default=0))


def _earlier(status: Evidence, host: str, image: Image, to: str) -> str:
    """Return the generation to go back to. Raises `NotFound` where the host keeps none such for the image that it runs."""
    kept = [one for one, fits in status.get("kept", {}).items() if fits == image.id and one != status["generation"]]
    before = [one for one in kept if one.isdigit() and _number(one) < _number(status["generation"])]
    chosen = to if to in kept else max(before, key=_number, default="") if not to else ""
    if not chosen:
        raise NotFound(
            f"{host} keeps no {f'generation {to}' if to else 'earlier generation'} for {image.name} {image.version}",
            details=f"kept: {', '.join(sorted(kept, key=_number)) or 'none'}; current: {status['generation'] or 'none'}",
            resolution="name one of them with --to, or correct the manifests and push",
        )
    return chosen


def _number(generation: str) -> int:
    return int(generation) if generation.isdigit() else 0


def _push_to_older(prepared: Prepared) -> PushResult:
    """Push to a host whose agent knows neither trials nor secrets beside a bundle: nobody takes anything back there."""
    access, host = prepared.access, prepared.access.host.name
    generation = str(next_generation(access.settings, host, seen=prepared.status["generation"]))
    with access.reporter.step(f"push to {host}"):
        job = access.jobs.apply(prepared.bundle.envelope(int(generation), access.jobs.key))
        report = access.link.run(job, started=prepared.started)
        units = list(report["units"])
        if prepared.secrets:
            units += access.link.run(access.jobs.secrets(prepared.secrets))["units"]
    return PushResult(host, generation, tuple(dict.fromkeys(units)), tuple(prepared.secrets))
