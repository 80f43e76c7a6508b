"""Compare what a host is to be like with what its agent saw. Pure: the same two give the same findings, in the same order."""

from collections.abc import Callable, Iterator

from flash.drift import access, files, image, network, system
from flash.drift.expected import Expected
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import Observation
from qtrade.manifest import DriftKind

_Comparison = Callable[[Expected, Observation], Iterator[Finding]]
_COMPARISONS: tuple[_Comparison, ...] = (
    image.compare_image,
    image.compare_boot,
    image.compare_cmdline,
    files.compare_files,
    files.compare_packages,
    files.compare_config,
    system.compare_units,
    system.compare_sysctls,
    system.compare_mounts,
    system.compare_time_zone,
    network.compare_ports,
    network.compare_firewall,
    access.compare_accounts,
    access.compare_sudo,
    access.compare_ssh,
    access.compare_spools,
)


def compare(expected: Expected, observation: Observation) -> tuple[Finding, ...]:
    """Return all findings. A part that the agent could not read is one too: silence proves nothing."""
    found = [finding for compare_part in _COMPARISONS for finding in compare_part(expected, observation)]
    found += [
        Finding(DriftKind.UNOBSERVED, part, f"the agent cannot read {part}", Remedy.HAND, found=problem)
        for part, problem in sorted(observation.errors.items())
    ]
    return tuple(dict.fromkeys(found))
