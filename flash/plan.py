"""The plan of a flash: a pure function of host, image and door. `--dry-run` prints it; the journal keeps its digest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flash.config import Bundle
from flash.context import Reimage
from flash.states import State, rules, sequence
from qtrade import look
from qtrade.look import Row, about, say_seconds
from qtrade.manifest import Host, Image
from qtrade.manifest.driver import Door
from qtrade.manifest.host import DiskIdentity
from qtrade.manifest.image import canonical_json, image_id

_ENTERING = {
    Door.IN_PLACE: "start the agent on the running host",
    Door.KEXEC: "start the installer from the running system, without its firmware",
    Door.RESCUE: "boot the provider's rescue system, and start the agent in it",
    Door.VIRTUAL_MEDIA: "boot the installer from a disc that the BMC shows, once",
    Door.UEFI_HTTP: "boot the installer by the firmware's own HTTP, once",
    Door.PXE: "boot the installer from the network, once",
    Door.IRONIC: "have Ironic boot the installer from a disc, as a deployment that writes nothing itself",
    Door.PROVIDER_IPXE: "have the provider boot our script, once",
    Door.PROVIDER_REINSTALL: "have the provider ERASE ALL DISKS and install its system; start the installer from that",
}


@dataclass(frozen=True)
class PlanStep:
    """One state that the flash will pass: what is done, until when, and what boots if power fails there."""

    state: State
    action: str
    deadline_s: float
    power_fails: str


@dataclass(frozen=True)
class FlashPlan:
    """What a flash will do. `touched` and `untouched` name disks."""

    host: str
    environment: str
    recipe: str
    version: str
    image: str
    door: Door
    touched: str
    untouched: tuple[str, ...]
    config: str
    given_up: tuple[str, ...]
    needs: tuple[str, ...]
    steps: tuple[PlanStep, ...]

    def deadline_s(self, state: State) -> float:
        """Return the seconds that `state` may take."""
        return next(step.deadline_s for step in self.steps if step.state is state)

    @property
    def digest(self) -> str:
        """Return a SHA-256 over the whole plan."""
        return image_id(canonical_json([self.host, self.image, self.door, self.touched, self.untouched, self.config]))


def config_digest(host: Host, bundle: Bundle, reimage: Reimage) -> str:
    """Return a SHA-256 over what a flash does to the host besides the image: config, kernel arguments, partitions, what it gives up."""
    sizes = [host.os_disk.esp_mib, host.os_disk.system_mib]
    return image_id(canonical_json([bundle.digest, host.cmdline, sizes, asdict(reimage)]))


def plan_flash(  # noqa: PLR0913 - what a plan is made of
    host: Host,
    image: Image,
    door: Door,
    *,
    config: str = "",
    reimage: Reimage = Reimage(),  # noqa: B008 - frozen
    ready_within_s: float = 0.0,
    needs: tuple[str, ...] = (),
) -> FlashPlan:
    """Return the plan; `config` is what `config_digest` gives, `ready_within_s` what `readiness`, `needs` what `availability` does."""
    disks = (*host.protected_disks, *host.data_disks)
    return FlashPlan(
        host=host.name,
        environment=host.environment,
        recipe=image.name,
        version=image.version,
        image=image.id,
        door=door,
        touched=describe_disk(host.os_disk),
        untouched=tuple(describe_disk(disk) for disk in disks),
        config=config,
        given_up=_given_up(reimage),
        needs=needs,
        steps=tuple(_step(door, state, image, ready_within_s) for state in sequence(door)),
    )


def describe_disk(disk: DiskIdentity) -> str:
    """Return the identifiers of a disk for people."""
    fields = {**disk.model_dump(exclude_none=True, exclude={"system_mib", "esp_mib"})}
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def expected_s(plan: FlashPlan, took: Mapping[str, float]) -> float | None:
    """Return how long all states take by what they took the last time; None where a state is new here."""
    known = [took.get(step.state) for step in plan.steps]
    return round(sum(filter(None, known)), 1) if all(one is not None for one in known) else None


def render_plan(plan: FlashPlan, *, took: Mapping[str, float] | None = None, width: int | None = None) -> str:
    """Return the plan as text for people. `took` are the seconds of states in the host's last flash through the same door."""
    took = took or {}
    aim = f"flash {plan.host} ({plan.environment}) with {plan.recipe} {plan.version} ({plan.image[:16]}…) through {plan.door}"
    facts = [
        ("writes", plan.touched),
        *[("gives up", what) for what in plan.given_up],
        *[("needs", what) for what in plan.needs],
        *[("never touches", disk) for disk in plan.untouched],
    ]
    rows = [
        Row(
            step.state,
            step.action,
            f"within {say_seconds(step.deadline_s)}; power fails: {step.power_fails}",
            took.get(step.state),
        )
        for step in plan.steps
    ]
    title = ", ".join(filter(None, (aim, about(expected_s(plan, took)))))
    return look.render_plan(title, rows, facts=facts, width=width)


def _given_up(reimage: Reimage) -> tuple[str, ...]:
    texts = {
        "all that the OS disk holds, if it is not qtrade's": bool(reimage.adopt),
        "qtrade-system: all installed versions": reimage.remake_system,
        "qtrade-state: /var, host keys, config generations, secrets": reimage.wipe_state,
    }
    return tuple(text for text, applies in texts.items() if applies)


def _step(door: Door, state: State, image: Image, ready_within_s: float) -> PlanStep:
    in_place = door is Door.IN_PLACE
    actions = {
        State.PLANNED: "freeze the plan",
        State.LEASED: "hold the host, so that nobody else flashes it",
        State.PREFLIGHT: "verify signatures and every blob; check that the host can be reached",
        State.DRAINED: "stop the services" if in_place else "stop the services, if the host runs any",
        State.STAGING: _ENTERING[door],
        State.WRITING: "add the layers that are missing" if in_place else "partition the OS disk and write all layers",
        State.VERIFIED: "read every byte back; compare the protected disks",
        State.ARMED: "make the next boot the new version, once" if in_place else "write the boot entry, last of all",
        State.REBOOTING: "reboot; proof: nonce, new boot_id, image id",
        State.CONFIGURED: "check the config generation; send the secrets",
        State.HEALTHY: "wait until the services are ready; run the specs of all roles on the host",
        State.SOAKING: "watch",
        State.COMMITTED: f"make {image.version} the default",
    }
    rule = rules(door, state)
    deadline_s = rule.deadline_s + (ready_within_s if state is State.HEALTHY else 0)
    return PlanStep(state, actions[state], deadline_s, rule.power_fails)
