"""The agent's memory on the state partition: which nonces were used, what was done, and the last report."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator

from . import durable, room
from .errors import AgentError
from .job import Job


class Journal:
    """The `agent` folder of the state partition."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nonces = folder / "nonces"
        self._lease = folder / "lease"

    def use_nonce(self, job: Job) -> None:
        """Note the nonce of a job before anything is done. Raises `AgentError` when it was used before."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        used = self._nonces.read_text().split() if self._nonces.exists() else []
        if job.nonce in used:
            raise AgentError(
                "nonce-used", f"the nonce {job.nonce[:16]}… was used before", "send a new job; a job works once"
            )
        self._append(self._nonces, job.nonce)
        self.note("begin", job)

    def use_lease(self, job: Job) -> None:
        """Keep the token of the job's lease. Raises as `require_holder`."""
        self.require_holder(job)
        if job.lease > self._read_lease():
            with self._writing("lease"):
                durable.write_file(self._lease, f"{job.lease}\n".encode(), 0o600)

    def require_holder(self, job: Job) -> None:
        """Raise `AgentError` when a later holder of this host gave a job already."""
        seen = self._read_lease()
        if job.lease and job.lease < seen:
            raise AgentError(
                "lease-lost",
                f"the job comes from a holder of this host (token {job.lease}) who was followed by another (token {seen})",
                "look who holds the host, `qtrade hosts show`, before anything else is done to it",
            )

    def _read_lease(self) -> int:
        try:
            return int(self._lease.read_text())
        except (FileNotFoundError, ValueError):  # what cannot be read must not make the host deaf
            return 0

    def note(self, event: str, job: Job) -> None:
        """Add a line on a job to the journal."""
        line = {"event": event, "kind": job.kind, "nonce": job.nonce, "issued_at": job.issued_at, "image": job.image_id}
        self._append(self._folder / "journal", json.dumps(line, sort_keys=True))

    def keep_report(self, report: Dict[str, Any]) -> None:
        """Keep the last report."""
        with self._writing("report.json"):
            durable.write_file(self._folder / "report.json", json.dumps(report, sort_keys=True).encode(), 0o600)

    def _append(self, path: Path, line: str) -> None:
        with self._writing(path.name):
            device = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(device, f"{line}\n".encode())
                os.fsync(device)
            finally:
                os.close(device)
            durable.sync_folder(self._folder)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Write one of the agent's files. Raises `AgentError`, with figures where the partition is full."""
        try:
            yield
        except OSError as error:
            is_full = error.errno == errno.ENOSPC
            free = f"; {room.root_can_write(self._folder)} bytes are free" if is_full else ""
            raise AgentError(
                "state-full" if is_full else "io-failed",
                f"{name} on qtrade-state cannot be written: {error.strerror}{free}",
                "make room below /var on the host (journalctl --vacuum-size=100M, /var/crash), or look at the disk",
            ) from error
