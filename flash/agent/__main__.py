"""The agent's verbs: `install` (in the installer), `run` (one job on stdin), `status` and `boot-ok` (on a running host).

`observe` is a module of its own.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from typing import Any, Dict

from . import adopt, boot, confine, errands, install, kexec, predecessor, programs, trust
from .actions import ACTIONS, Task
from .errors import AgentError
from .host import Host, locked
from .job import PAYLOAD_TYPE, Job, open_job
from .journal import Journal
from .report import Reporter, sign_report
from .status import read_status

_MAX_JOB_BYTES = 64 * 1024 * 1024


def main() -> int:
    """Run the verb of the command line; the exit code is 0 when it succeeded, 1 when it failed, 2 for a wrong verb."""
    verbs = {"install": run_install, "kexec": run_kexec, "run": run_job, "status": show_status, "boot-ok": note_boot}
    takes_words = sys.argv[1:2] in (["install"], ["kexec"])
    if sys.argv[1:2] == [] or sys.argv[1] not in verbs or (len(sys.argv) != 2 and not takes_words):
        print(f"usage: python3 -m agent {'|'.join(verbs)}", file=sys.stderr)
        return 2
    try:
        return verbs[sys.argv[1]]()
    except AgentError as error:
        print(json.dumps({"event": "error", "error": error.as_json()}), flush=True)
        print(f"agent: {error}", file=sys.stderr)
        return 1


def run_install() -> int:
    """Install this machine with the job that the kernel command line names; in a rescue system, words of ours take its place."""
    host = Host()
    parameters = install.read_parameters(" ".join(sys.argv[2:]) or (host.proc / "cmdline").read_text())
    envelope = install.get_job(parameters["qtrade.job"])
    current = trust.open_pinned(trust.offered_set(envelope, PAYLOAD_TYPE), parameters["qtrade.root"])
    job = open_job(envelope, current.job)
    reporter = Reporter(job.report)
    facts: Dict[str, Any] = {
        "ok": True,
        "nonce": job.nonce,
        "boot_id": host.boot_id,
        "image": job.image_id,
        "written": False,
        "error": None,
    }
    try:
        predecessor.require_holder(job, host)
        if job.kind in errands.ERRANDS:
            facts["written"] = True
            facts.update(errands.ERRANDS[job.kind](job, current, _now(job, current), reporter))
        else:
            plan = install.check(job, current, _now(job, current), host, reporter)
            facts["written"] = True
            facts.update(install.install(plan, host, reporter))
    except Exception as error:  # noqa: BLE001 - whatever it is, the controller must hear of it
        facts.update(_failure(error))
    reporter.report(facts, job.nonce)
    if not facts["ok"]:
        print(f"agent: {facts['error']['message']}; {facts['error']['remedy']}", file=sys.stderr)
    return 0 if facts["ok"] else 1


def run_kexec() -> int:
    """On a system that is not ours: start the installer by kexec, with the job that the words of the command line name."""
    parameters = install.read_parameters(" ".join(sys.argv[2:]))
    envelope = install.get_job(parameters["qtrade.job"])
    current = trust.open_pinned(trust.offered_set(envelope, PAYLOAD_TYPE), parameters["qtrade.root"])
    job = open_job(envelope, current.job)
    if job.kind != "kexec" or job.boot is None:
        raise AgentError("job-invalid", f"kexec got a job of kind {job.kind}", "start the flash again")
    facts = kexec.load(job.boot, job.source, Reporter(stream=sys.stderr))
    kexec.start_now()
    Reporter().report({"ok": True, "nonce": job.nonce, "boot_id": Host().boot_id, "error": None, **facts}, job.nonce)
    return 0


def run_job() -> int:
    """Run the one job that comes on stdin; the last line on stdout is the report."""
    host = Host()
    if not confine.is_confined(os.environ):
        confine.enter(host, "run")
    envelope = _read_envelope()
    held = trust.read_held(host.system)
    current = trust.choose(held, trust.offered_set(envelope, PAYLOAD_TYPE), max(time.time(), held.issued_at))
    job = open_job(envelope, current.job)
    if job.host != host.name:
        raise AgentError("job-foreign", f"the job is for {job.host}, this is {host.name}", "send it to that host")
    if job.kind not in ACTIONS:
        raise AgentError("job-invalid", f"a running host does no {job.kind}", f"send {', '.join(ACTIONS)}")
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
        facts.update(ACTIONS[job.kind](Task(job, host, reporter, current, environment, _now(job, current))))
    except Exception as error:  # noqa: BLE001 - whatever it is, the controller must hear of it
        facts.update(_failure(error))
    # What is done is done, and the controller is to hear of it, whether it can be noted or not.
    with contextlib.suppress(OSError, AgentError):
        journal.note("done" if facts["ok"] else "failed", job)
        journal.keep_report(sign_report({"event": "report", **facts}, job.nonce))
    reporter.report(facts, job.nonce)
    if facts["ok"]:
        _reboot_if_asked(job)
    return 0 if facts["ok"] else 1


def show_status() -> int:
    """Print the host's state as JSON."""
    print(json.dumps(read_status(Host()), sort_keys=True))
    return 0


def note_boot() -> int:
    """Take the failed boots off the count: called by a unit when the host is up."""
    host = Host()
    with host.esp() as esp:
        state = boot.note_success(esp, host.image_id)
    print(json.dumps({"default": state.default, "failed_boots": state.tries}))
    return 0


def _now(job: Job, current: trust.TrustSet) -> float:
    """Return the latest of the times that are known: a clock that was reset must not make old things fresh."""
    return max(time.time(), job.issued_at, current.issued_at)


def _read_envelope() -> Any:
    try:
        return json.loads(sys.stdin.buffer.read(_MAX_JOB_BYTES))
    except ValueError as error:
        raise AgentError("envelope-invalid", "stdin holds no JSON", "send one DSSE envelope") from error


def _failure(error: Exception) -> Dict[str, Any]:
    if isinstance(error, AgentError):
        known = error
    elif isinstance(error, OSError):
        known = AgentError("io-failed", str(error), "look at the disk and the network")
    else:
        traceback.print_exception(type(error), error, error.__traceback__)
        known = AgentError(
            "agent-fault", repr(error), "this is a fault of the agent: report it with the lines on its stderr"
        )
    return {"ok": False, "error": known.as_json()}


def _reboot_if_asked(job: Job) -> None:
    if job.kind == "reboot":
        # With a delay, so that the answer gets out before the network goes down.
        programs.run("systemd-run", "--on-active=1", "--collect", "--quiet", "systemctl", "reboot")
    if job.kind == "kexec":
        kexec.start_cleanly()


if __name__ == "__main__":
    sys.exit(main())
