"""Numbers of config generations: each host counts its own, and no number is used for two bundles."""

import json
from pathlib import Path

from qtrade.settings import Settings


def next_generation(settings: Settings, host: str, *, seen: str = "") -> int:
    """Return a number above every one that was used for `host`; `seen` is what the host itself says it runs."""
    path = _path(settings, host)
    used = json.loads(path.read_text())["last"] if path.is_file() else 0
    number = max(used, int(seen) if seen.isdigit() else 0) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"last": number}))
    fresh.replace(path)
    return int(number)


def _path(settings: Settings, host: str) -> Path:
    return settings.state_dir / "generations" / f"{host}.json"
