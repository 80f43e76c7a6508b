"""Confirms over a new connection that a host can still be reached, after a change that it takes back by itself otherwise."""

import time

from flash.access import Evidence, HostAccess
from flash.jobs import AgentFailed, SignedJob
from qtrade.errors import HostError, QtradeError, ToolError
from qtrade.ssh import StartedCommand

# Hosts take 5 new connections in 30 s (role ufw_solana), and whoever knocks on while refused stays refused.
_KNOCK_S = 6.5
_CONFIRM_TIMEOUT_S = 60
# The host's own timer, its units' ways back, and then an answer.
_RETURN_S = 240.0
_OVER = "trial-over"


def send_and_confirm(
    access: HostAccess,
    job: SignedJob,
    generation: str,
    *,
    within_s: float,
    started: StartedCommand | None = None,
    has_verb: bool = False,
) -> Evidence:
    """Run a job that makes `generation` current, confirm it if it is on trial, and return its report.

    `started` is an agent that waits for the job; `has_verb` says that agents of this host have a verb of its own for a confirmation.

    Where the job's own connection was cut, only a new one tells what became of it. Raises `HostError` when the host did not take the
    generation, or has taken it back.
    """
    try:
        report = access.link.run(job, started=started)
    except AgentFailed:
        raise
    except (HostError, ToolError) as error:
        access.reporter.say(
            f"{access.host.name}: the connection was cut during the change ({error.brief}); trying a new one"
        )
        report = {"waits_s": within_s, "generation": generation}
    if report.get("waits_s"):
        _confirm(access, job.nonce, generation, within_s=float(report["waits_s"]), has_verb=has_verb)
    return report


def _confirm(access: HostAccess, nonce: str, generation: str, *, within_s: float, has_verb: bool) -> None:
    """Confirm until it is taken or time is up; then wait for the host to come back as it was."""
    access.link.disconnect()
    deadline = time.monotonic() + within_s
    while True:
        began = time.monotonic()
        try:
            access.link.confirm(access.jobs.confirm(nonce), timeout_s=_CONFIRM_TIMEOUT_S, is_known=has_verb)
        except AgentFailed as error:
            if error.code != _OVER:
                raise
            # It may be that the way back was over before the confirmation got through, or that somebody settled it already.
            if _is_settled(access, generation):
                return
            raise _taken_back(access, generation, error) from error
        except (HostError, ToolError) as error:
            last = error
        else:
            return
        if began + _KNOCK_S >= deadline:
            raise _taken_back(access, generation, last)
        time.sleep(max(began + _KNOCK_S - time.monotonic(), 0))


def _is_settled(access: HostAccess, generation: str) -> bool:
    """Say whether the generation counts already: whoever settled it, its report got lost with the connection."""
    status = access.link.status()
    settled: bool = status["generations"].get(status["image"]) == status["generation"] == generation
    return settled


def _taken_back(access: HostAccess, generation: str, last: QtradeError) -> HostError:
    """Return the error for a generation that cut the host off, with what is seen of the host after it went back."""
    host = access.host.name
    try:
        status = access.wait_for_status(
            lambda now: now["generation"] != generation and not now.get("trial"),
            within_s=_RETURN_S,
            what=f"the way back from generation {generation}",
        )
    except HostError as error:
        return HostError(
            f"{host} cannot be reached since generation {generation}; it goes back by itself, which was not seen yet",
            details=f"{last.brief}\n{error.details}",
            resolution="look at its console; `qtrade hosts show` says what it runs once it answers",
        )
    return HostError(
        f"{host} could not be reached with generation {generation}, and took it back: generation {status['generation']} is current",
        details=f"{last.brief}\n{last.details}\n{_reason(status)}".strip(),
        resolution="correct the values of the files that SSH, network and firewall read, then push",
    )


def _reason(status: Evidence) -> str:
    """Return the host's own words for why it went back."""
    reverted = status.get("reverted") or {}
    return f"the host says of generation {reverted['generation']}: {reverted['why']}" if reverted else ""
