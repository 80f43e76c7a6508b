"""The verbs of the installer: `install`, and on a system that is not ours `kexec`."""

import sys
from typing import Any, Dict

from . import errands, install, kexec, predecessor, trust
from .errors import AgentError
from .failure import failure_of
from .host import Host
from .job import PAYLOAD_TYPE, open_job
from .report import Reporter


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
            facts.update(errands.ERRANDS[job.kind](job, current, trust.latest_time(job.issued_at, current), reporter))
        else:
            plan = install.check(job, current, trust.latest_time(job.issued_at, current), host, reporter)
            facts["written"] = True
            facts.update(install.install(plan, host, reporter))
    except Exception as error:  # noqa: BLE001 - whatever it is, the controller must hear of it
        facts.update(failure_of(error))
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
