"""Who runs this command: a person at a machine, or a workflow's run. It is what the environment says, and so no proof."""

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """A run of a workflow, as GitHub Actions names it; `attempt` counts from 1, `event` is what started it."""

    repository: str
    workflow: str
    id: str
    attempt: str = ""
    event: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Actor:
    """`who` is an account's name, `where` the machine; `run` is None outside of workflows."""

    who: str
    where: str
    run: Run | None = None

    def describe(self) -> str:
        """Return one short text for people."""
        if self.run is None:
            return f"{self.who}@{self.where}"
        return f"{self.who} ({self.run.workflow or self.run.repository}, run {self.run.id})"


def read_actor(environ: Mapping[str, str] | None = None) -> Actor:
    """Return who acts: GITHUB_ACTOR with its run where GitHub Actions says so, else the local account."""
    given = os.environ if environ is None else environ
    number = given.get("GITHUB_RUN_ID", "")
    run = (
        Run(
            repository=given.get("GITHUB_REPOSITORY", ""),
            workflow=given.get("GITHUB_WORKFLOW", ""),
            id=number,
            attempt=given.get("GITHUB_RUN_ATTEMPT", ""),
            event=given.get("GITHUB_EVENT_NAME", ""),
            commit=given.get("GITHUB_SHA", ""),
        )
        if number
        else None
    )
    return Actor(given.get("GITHUB_ACTOR") or who(given), socket.gethostname(), run)


def who(environ: Mapping[str, str] | None = None) -> str:
    """Return the person: who called sudo, where somebody did."""
    given = os.environ if environ is None else environ
    return given.get("SUDO_USER") or getpass.getuser()
