"""Talk to the agent of a running host over SSH: one signed job in, JSON lines out."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flash.jobs import SignedJob, check_report, failure, find_unknown
from qtrade.errors import HostError, QtradeError
from qtrade.redaction import redact
from qtrade.ssh import SshTarget, StartedCommand

_RUN = "sudo -n /usr/bin/qtrade-agent run"
_CONFIRM = "sudo -n /usr/bin/qtrade-agent confirm"
_POLL_S = 2.0
# Hosts take 5 new connections in 30 s (role ufw_solana), and whoever knocks on while refused stays refused.
_KNOCK_S = 6.5
_JOB_TIMEOUT_S = 600.0
_STATUS = "sudo -n /usr/bin/qtrade-agent status"
_CONFIG = "sudo -n /usr/bin/qtrade-agent config"
_OBSERVE = "sudo -n /usr/bin/qtrade-agent observe"


class _Unknown(HostError):
    """The agent is older than some fields of a job."""

    def __init__(self, host: str, fields: frozenset[str]) -> None:
        super().__init__(
            f"{host}: its agent is older than the job's fields {', '.join(sorted(fields))}",
            resolution="flash the host through a door that needs no running system",
        )
        self.fields = fields


class AgentLink:
    """The agent of one host, reached as its deploy user."""

    def __init__(self, target: SshTarget) -> None:
        self.target = target

    def run(
        self,
        job: SignedJob,
        *,
        timeout_s: float = _JOB_TIMEOUT_S,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        forward: str | None = None,
        started: StartedCommand | None = None,
    ) -> dict[str, Any]:
        """Run a job and return its checked report. `forward` is an SSH remote forward. Raises `HostError`, `TrustError`, `LeaseLost`.

        `started` is of `ready`. An agent of an older image refuses fields that it does not know, before it does anything: it gets the job
        once more without them.
        """
        if started is None or started.is_over:
            extra = ("-R", forward, "-o", "ExitOnForwardFailure=yes") if forward else ()
            started = self.target.start(_RUN, extra=extra)
        try:
            return self._run(job, started, timeout_s=timeout_s, on_event=on_event)
        except _Unknown as older:
            if job.without is None:
                raise
            return self.run(job.without(older.fields), timeout_s=timeout_s, on_event=on_event, forward=forward)

    @contextmanager
    def ready(self) -> Iterator[StartedCommand]:
        """Let an agent start for a job to come, which it then needs not wait for; it ends with the context. Raises `HostError`."""
        started = self.target.start(_RUN)
        try:
            yield started
        finally:
            started.abandon()

    def confirm(self, job: SignedJob, *, timeout_s: float, is_known: bool) -> dict[str, Any]:
        """Run a job of kind confirm; `is_known` says whether the agent has a verb for it, which is quicker. Raises as `run`."""
        started = self.target.start(_CONFIRM) if is_known else None
        return self.run(job, timeout_s=timeout_s, started=started)

    def _run(
        self,
        job: SignedJob,
        started: StartedCommand,
        *,
        timeout_s: float,
        on_event: Callable[[dict[str, Any]], None] | None,
    ) -> dict[str, Any]:
        events: list[dict[str, Any]] = []

        def take(line: str) -> None:
            try:
                event = json.loads(line)
            except ValueError:
                return
            events.append(event)
            if on_event:
                on_event(event)

        code, said = started.finish(json.dumps(job.envelope).encode(), on_line=take, timeout_s=timeout_s)
        report = next((event for event in reversed(events) if event.get("event") == "report"), None)
        refusal = next((event["error"] for event in events if event.get("event") == "error"), None)
        if report is None and refusal and (unknown := find_unknown(refusal)):
            raise _Unknown(self.target.host, unknown)
        if report is None and refusal:
            raise failure(self.target.host, refusal)
        if report is None:
            raise HostError(
                f"{self.target.host}: the agent gave no report (code {code})",
                details=redact(said[-1000:]),
                resolution=f"log in as the operator and read the journal; {self.target.user} needs its sudo rule",
            )
        return check_report(report, job.nonce, self.target.host)

    def disconnect(self) -> None:
        """End the shared connection: the host is about to reboot, and would leave it hanging."""
        self.target.disconnect()

    def status(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Return what the host says of itself. Raises `HostError`."""
        return self._parse(self.target.run(_STATUS, timeout_s=timeout_s).stdout)

    def config(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Return what a push asks for, with `bundles`, the signed bundles that the host keeps, by generation; older agents leave these out.

        Raises `HostError`.
        """
        done = self.target.run(_CONFIG, timeout_s=timeout_s, check=False)
        return self._parse(done.stdout) if done.returncode == 0 else self.status(timeout_s=timeout_s)

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise HostError(f"{self.target.host}: the agent's status is not JSON", details=text[-500:]) from error
        return status

    def observe(self, *, timeout_s: float = 60) -> str:
        """Return all that can drift on the host, as the JSON text that its agent prints. Raises `HostError`, also for an older agent."""
        done = self.target.run(_OBSERVE, timeout_s=timeout_s, check=False)
        if done.returncode != 0:
            raise HostError(
                f"{self.target.host}: its agent did not observe (code {done.returncode})",
                details=redact((done.stderr or done.stdout)[-1000:]),
                resolution="an image from before `qtrade drift` has no such verb: flash a newer one",
            )
        return done.stdout

    def wait_for_status(
        self, accept: Callable[[dict[str, Any]], bool], *, within_s: float, what: str
    ) -> dict[str, Any]:
        """Ask the host until `accept` takes its status. Raises `HostError`, with the last answer, when time is up."""
        deadline = time.monotonic() + within_s
        last = "no answer yet"
        while (now := time.monotonic()) < deadline:
            try:
                status = self.status(timeout_s=30)
            except QtradeError as error:
                last = f"{error.brief} {error.details}".strip()
                time.sleep(max(min(now + _KNOCK_S, deadline) - time.monotonic() - _POLL_S, 0))
            else:
                if accept(status):
                    return status
                last = f"image {status.get('image')}, boot_id {status.get('boot_id')}, nonce {str(status.get('nonce'))[:8]}…"
            time.sleep(_POLL_S)
        raise HostError(
            f"{self.target.host}: {what} did not happen within {within_s:.0f} s",
            details=f"last seen: {last}",
            resolution="look at the host's console",
        )
