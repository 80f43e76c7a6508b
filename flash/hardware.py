"""Is a host the machine that its environment asks of its role? Looked up on the running host, as its operator."""

from collections.abc import Iterator
from dataclasses import dataclass

from flash.context import Evidence
from flash.ssh import target_for
from qtrade.errors import HostError
from qtrade.manifest import Environment, Host
from qtrade.manifest.hardware import HardwareProfile
from qtrade.settings import Settings

# Firmware, and the kernel's own page tables, keep a share of what is soldered in.
_SEEN_OF_SOLD = 0.94
_KIB_PER_GIB = 1 << 20
# A link that is down, or whose driver does not know, tells -1 or an error.
_LOOK = (
    "getconf _NPROCESSORS_ONLN; sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo; "
    "cat /sys/class/net/*/speed 2>/dev/null | sort -n | tail -n 1 | grep . || echo -1; "
    "sed -n '/^flags/{s/^[^:]*: *//p;q}' /proc/cpuinfo"
)


@dataclass(frozen=True)
class Machine:
    """What a host has: threads, memory in KiB, the fastest link in Mbit/s (-1: none is known) and the processor's flags."""

    threads: int
    memory_kib: int
    link_mbit: int
    cpu_flags: frozenset[str]


def parse_machine(text: str) -> Machine:
    """Parse what the look prints. Raises `ValueError`."""
    threads, memory, link, *flags = text.splitlines()
    return Machine(int(threads), int(memory), int(link), frozenset(" ".join(flags).split()))


def judge(profile: HardwareProfile, machine: Machine) -> Iterator[str]:
    """Yield what the machine lacks. Pure."""
    if machine.threads < profile.threads:
        yield f"{machine.threads} threads, {profile.threads} are asked for"
    if machine.memory_kib < profile.memory_gib * _KIB_PER_GIB * _SEEN_OF_SOLD:
        yield f"{machine.memory_kib / _KIB_PER_GIB:.1f} GiB of memory, {profile.memory_gib} are asked for"
    if profile.link_mbit and machine.link_mbit < profile.link_mbit:
        found = f"a link of {machine.link_mbit} Mbit/s" if machine.link_mbit > 0 else "no link of a known speed"
        yield f"{found}, {profile.link_mbit} are asked for"
    missing = [flag for flag in profile.cpu_flags if flag not in machine.cpu_flags]
    if missing:
        yield f"a processor without {', '.join(missing)}"


def check_hardware(settings: Settings, host: Host, environment: Environment) -> Evidence:
    """Return what machine the host is; nothing where its environment asks nothing of the role. Raises `HostError`."""
    profile = environment.hardware.get(host.role)
    if profile is None:
        return {}
    text = target_for(settings, host, user=host.ssh.operator).run(_LOOK, timeout_s=60).stdout
    try:
        machine = parse_machine(text)
    except ValueError as error:
        raise HostError(
            f"{host.name} does not tell what machine it is",
            details=text[-300:],
            resolution="log in as its operator and run `getconf _NPROCESSORS_ONLN; grep MemTotal /proc/meminfo`",
        ) from error
    faults = list(judge(profile, machine))
    if faults:
        raise HostError(
            f"{host.name} is not the machine that {environment.name} asks of a {host.role}: {'; '.join(faults)}",
            resolution=f"order another machine, or change hardware.{host.role} of environment {environment.name}",
        )
    return {"threads": machine.threads, "memory_kib": machine.memory_kib, "link_mbit": machine.link_mbit}
