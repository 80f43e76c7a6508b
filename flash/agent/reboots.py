"""Config files that only a boot reads: which of them have changed since, so that the change waits for the next one."""

import json
from pathlib import Path
from typing import Dict, List

from . import config, durable
from .units import Inputs


def remember(booted: Path, generations: Path, generation: str, inputs: Inputs) -> None:
    """Note, once in a boot, what that boot has read. `booted` has to be gone after the next one, as all below /run is."""
    if not booted.exists():
        durable.write_file(booted, json.dumps(_read(generations, generation, inputs), sort_keys=True).encode(), 0o600)


def waiting(booted: Path, generations: Path, inputs: Inputs) -> List[str]:
    """Return the paths whose change waits for a reboot."""
    try:
        before = json.loads(booted.read_text())
    except (OSError, ValueError):
        return []
    now = _read(generations, config.current_generation(generations), inputs)
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def _read(generations: Path, generation: str, inputs: Inputs) -> Dict[str, str]:
    sums = config.read_sums(generations, generation)
    return {path: sums[path] for path in inputs.read_at_boot(sums)}
