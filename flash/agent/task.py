"""A job on a running host, with what its action needs."""

from typing import NamedTuple

from .host import Host
from .job import Job
from .report import Reporter
from .trust import TrustSet


class Task(NamedTuple):
    """A job, the host that it is for, whom to tell, and what the host demands: `now` is the latest of the clocks that it knows.

    `connected_at` is when the SSH connection was made that the job came over, in seconds since the boot.
    """

    job: Job
    host: Host
    reporter: Reporter
    trust: TrustSet
    environment: str
    now: float
    connected_at: float
