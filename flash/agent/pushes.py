"""What a push makes a running host do: take config and secrets, confirm them, or go back to an earlier generation."""

import os
from typing import Any, Dict, List, Sequence

from . import config, confine, credentials, reboots, trial, units
from .bundle import check_declared, open_bundle
from .errors import AgentError
from .host import Host
from .names import parse_names
from .programs import run
from .task import Task

_UNIT = "qtrade-trial"


class SystemdTimer:
    """Transient timers, each of which runs the agent's verb `revert` once; nothing but a reboot ends them unasked."""

    def arm(self, within_s: float) -> None:
        """Start one."""
        run(
            "systemd-run", "--quiet", "--collect", f"--unit={_UNIT}-{os.urandom(4).hex()}", f"--on-active={within_s:.1f}",
            "--timer-property=AccuracySec=500ms", "--property=Restart=on-failure", "--property=RestartSec=10",
            *confine.render_agent([], "revert"),
        )  # fmt: skip

    def disarm(self) -> None:
        """Stop all of them; one that runs the verb already is let be, and finds nothing to do."""
        run("systemctl", "stop", "--no-block", f"{_UNIT}-*.timer")


def ground_of(host: Host) -> trial.Ground:
    """Return where the config of a running host is changed."""
    return trial.Ground(
        config=host.config,
        store=host.state / "credstore",
        notes=host.state / "agent",
        booted=host.run / "booted.json",
        image_id=host.image_id,
        boot_id=host.boot_id,
        inputs=units.read_inputs(host.inputs),
        timer=SystemdTimer(),
    )


def apply(task: Task) -> Dict[str, Any]:
    """Take a config bundle for the running image, and the secrets that come with it."""
    job, host, ground = task.job, task.host, ground_of(task.host)
    if job.bundle is None:
        raise AgentError("job-invalid", "a job of kind apply needs a bundle")
    bundle = open_bundle(job.bundle, task.trust.job, job.host)
    if bundle.image_id != host.image_id:
        raise AgentError(
            "bundle-foreign",
            f"the bundle is for image {bundle.image_id}, {host.image_id} runs",
            "render it for the running image",
        )
    check_declared(bundle, ground.inputs)
    names = parse_names((host.etc / "passwd").read_text(), (host.etc / "group").read_text())
    credentials.check_declared(job.secrets, ground.inputs, forget=job.forget)
    config.write_generation(host.config, bundle, names)
    stored: List[credentials.Stored] = []

    def put() -> Sequence[units.UnitAction]:
        stored.append(credentials.put(ground.store, job.secrets, ground.inputs, forget=job.forget))
        return stored[-1].actions

    taken = trial.take(
        ground,
        bundle.generation,
        job.nonce,
        confirm_within_s=job.confirm_within_s,
        put=put if job.secrets or job.forget else None,
    )
    for one in stored:
        credentials.hand_over(ground.store, one)
    return {**_facts(ground, taken), "stamps": credentials.stamps(ground.store)}


def restore(task: Task) -> Dict[str, Any]:
    """Go back to a generation that the running image had before."""
    job, ground = task.job, ground_of(task.host)
    config.require_whole(ground.config, job.generation, ground.image_id)
    return _facts(ground, trial.take(ground, job.generation, job.nonce, confirm_within_s=job.confirm_within_s))


def confirm(task: Task) -> Dict[str, Any]:
    """Settle what is on trial."""
    ground = ground_of(task.host)
    return {"generation": trial.confirm(ground, task.job.confirms, connected_at=task.connected_at)}


def store_secrets(task: Task) -> Dict[str, Any]:
    """Take secrets."""
    job, ground = task.job, ground_of(task.host)
    acted = credentials.store_secrets(ground.store, job.secrets, ground.inputs, forget=job.forget)
    return {
        "secrets": [secret.name for secret in job.secrets],
        "units": acted,
        "stamps": credentials.stamps(ground.store),
    }


def _facts(ground: trial.Ground, taken: trial.Taken) -> Dict[str, Any]:
    return {
        "generation": config.current_generation(ground.config),
        "units": taken.units,
        "waits_s": taken.waits_s,
        "reboot_needed": reboots.waiting(ground.booted, ground.config, ground.inputs),
    }
