"""The links of `tests.bench.flash`: a network namespace of its own, whose loopback carries as much as a port of that rate."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# What people call it -> the rate as tc(8) has it, empty for all that the machine gives.
LINKS = {"1 Gbit/s": "1gbit", "2.5 Gbit/s": "2500mbit", "the loopback": ""}
_NAME = "qtrade-bench"
# tc-tbf(8): a bucket holds at least one packet, and those of a loopback have 64 KiB.
_BURST, _LATENCY = "1mb", "50ms"


@contextmanager
def link(rate: str) -> Iterator[tuple[str, ...]]:
    """Make the namespace; gives what stands before a command that runs in it. Needs root."""
    inside = ("ip", "netns", "exec", _NAME)
    # One that a killed bench left.
    subprocess.run(["ip", "netns", "del", _NAME], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "add", _NAME], check=True)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        if rate:
            shape = ("rate", rate, "burst", _BURST, "latency", _LATENCY)
            subprocess.run([*inside, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", *shape], check=True)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", _NAME], check=True)
