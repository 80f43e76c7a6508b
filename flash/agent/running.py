"""The verbs of a running host: `run` (one job on stdin), and what needs no job."""

import contextlib
import importlib
import json
import os
import sys
import time
from typing import Any, Callable, Dict, Tuple

from . import adopt, boot, config, confine, programs, trust
from .errors import AgentError
from .failure import failure_of
from .host import Host, locked
from .job import PAYLOAD_TYPE, Job, open_job
from .journal import Journal
from .names import parse_names
from .report import Reporter, sign_report
from .status import read_running, read_status
from .task import Task

_MAX_JOB_BYTES = 64 * 1024 * 1024
# Kind of a job -> the module that does it, where its function has the name of the kind or the one given. A push loads no more than its own.
_ACTIONS = {
    **{kind: ("actions", kind) for kind in ("stage", "arm", "commit", "reboot", "drain", "undrain")},
    **{kind: ("pushes", kind) for kind in ("apply", "restore", "confirm")},
    "secret": ("pushes", "store_secrets"),
    "kexec": ("actions", "load_installer"),
}


def run_job() -> int:
    """Run the one job that comes on stdin; the last line on stdout is the report. Who waited for it and gets none has nothing to do."""
    return _run_job(tuple(_ACTIONS))


def run_confirm() -> int:
    """As `run_job`, for a job of kind confirm: its agent is not confined, writes links and notes on qtrade-state, and is there sooner."""
    return _run_job(("confirm",))


def _run_job(kinds: Tuple[str, ...]) -> int:
    from . import pushes  # noqa: F401, PLC0415 - who starts early to wait for a push has it loaded by then

    host = Host()
    sent = sys.stdin.buffer.read(_MAX_JOB_BYTES)
    if not sent:
        return 0
    envelope = _parse_envelope(sent)
    held = trust.read_held(host.system)
    current = trust.choose(held, trust.offered_set(envelope, PAYLOAD_TYPE), max(time.time(), held.issued_at))
    job = open_job(envelope, current.job)
    if job.host != host.name:
        raise AgentError("job-foreign", f"the job is for {job.host}, this is {host.name}", "send it to that host")
    if job.kind not in kinds:
        raise AgentError("job-invalid", f"this verb of a running host does no {job.kind}", f"send {', '.join(kinds)}")
    (host.state / "agent").mkdir(mode=0o700, exist_ok=True)
    # An agent whose controller is gone may still be at work: one job at a time.
    with locked(host.state / "agent/lock"):
        return _carry_out(job, host, current)


def _carry_out(job: Job, host: Host, current: trust.TrustSet) -> int:
    """Do a job and report; returns the exit code."""
    journal = Journal(host.state / "agent")
    journal.use_lease(job)
    journal.use_nonce(job)
    reporter = Reporter(job.report)
    facts: Dict[str, Any] = {
        "ok": True, "kind": job.kind, "nonce": job.nonce, "boot_id": host.boot_id, "image": host.image_id, "bytes_fetched": 0,
        "blobs_fetched": [], "ssh_host_key": host.ssh_host_key(), "protected": [], "error": None,
    }  # fmt: skip
    try:
        environment = adopt.adopt(host, current, job.environment)
        came = confine.connected_at(os.environ, host.proc)
        facts.update(
            action_of(job.kind)(
                Task(job, host, reporter, current, environment, trust.latest_time(job.issued_at, current), came)
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the controller must hear of it
        facts.update(failure_of(error))
    # What is done is done, and the controller is to hear of it, whether it can be noted or not.
    with contextlib.suppress(OSError, AgentError):
        journal.note("done" if facts["ok"] else "failed", job)
        journal.keep_report(sign_report({"event": "report", **facts}, job.nonce))
    reporter.report(facts, job.nonce)
    if facts["ok"]:
        _reboot_if_asked(job)
    return 0 if facts["ok"] else 1


def action_of(kind: str) -> Callable[[Task], Dict[str, Any]]:
    """Return the function that does jobs of a kind that a running host does."""
    module, name = _ACTIONS[kind]
    action: Callable[[Task], Dict[str, Any]] = getattr(importlib.import_module(f".{module}", __package__), name)
    return action


def show_status() -> int:
    """Print the host's state as JSON."""
    print(json.dumps(read_status(Host()), sort_keys=True))
    return 0


def show_config() -> int:
    """Print what the host runs as JSON with `bundles` and `altered`.

    Bundles are those of the current generation and of the running image's settled ones. Altered are the files of the current one that
    are not as its bundle says, null where it cannot be read.
    """
    host = Host()
    found = {**read_running(host), "altered": None}
    back = [name for name, image in found["kept"].items() if image == found["image"]]
    found["bundles"] = config.read_envelopes(host.config, [found["generation"], *back])
    names = parse_names((host.etc / "passwd").read_text(), (host.etc / "group").read_text())
    with contextlib.suppress(AgentError):
        found["altered"] = config.altered_files(host.config, config.current_generation(host.config), names)
    print(json.dumps(found, sort_keys=True))
    return 0


def revert_config() -> int:
    """Take back a config generation that was not confirmed in time: called by a timer."""
    from . import pushes, trial  # noqa: PLC0415 - only this verb and pushes need them

    host = Host()
    with locked(host.state / "agent/lock"):
        gone = trial.revert(pushes.ground_of(host))
    print(json.dumps({"reverted": gone}))
    return 0


def note_boot() -> int:
    """Take the failed boots off the count, and note how jobs are confined: called by a unit when the host is up."""
    host = Host()
    confine.note(host)
    with host.esp() as esp:
        state = boot.note_success(esp, host.image_id)
    print(json.dumps({"default": state.default, "failed_boots": state.tries}))
    return 0


def _parse_envelope(sent: bytes) -> Any:
    try:
        return json.loads(sent)
    except ValueError as error:
        raise AgentError("envelope-invalid", "stdin holds no JSON", "send one DSSE envelope") from error


def _reboot_if_asked(job: Job) -> None:
    if job.kind == "reboot":
        # With a delay, so that the answer gets out before the network goes down.
        programs.run("systemd-run", "--on-active=1", "--collect", "--quiet", "systemctl", "reboot")
    if job.kind == "kexec":
        from . import kexec  # noqa: PLC0415 - only this kind needs it

        kexec.start_cleanly()
