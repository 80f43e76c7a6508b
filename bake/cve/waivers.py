"""Waivers on disk: a YAML file that people read, and beside it one signed envelope for every waiver that counts."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bake.whole_file import write_whole
from qtrade.errors import BadInput, ConflictError, TrustError, UsageError
from qtrade.manifest import Gate, Waiver, Waivers, load_manifest, load_text
from qtrade.manifest.faults import describe_fault
from qtrade.settings import Settings
from qtrade.signing import PublicKey, SigningKey, open_envelope

WAIVER_TYPE = "application/vnd.qtrade.waiver+json"
LONGEST_DAYS = 180
_HEADER = (
    "# Written by `qtrade images waive`; each entry counts only with its signature in {name}.\nschema_version: 1\n"
)


@dataclass(frozen=True)
class WaiverSet:
    """What a recipe's waiver file says: the gate, the waivers whose signature holds, and a line for each other one."""

    gate: Gate
    signed: tuple[Waiver, ...] = ()
    refused: tuple[str, ...] = ()


def read_waivers(settings: Settings, recipe: str, trusted: tuple[PublicKey, ...]) -> WaiverSet:
    """Return the waivers of `recipe`; without a file there are none. Raises `BadInput` for a file that cannot be read.

    A waiver counts when a `trusted` key signed these very fields for this recipe. What was signed but is no longer in the
    YAML file counts no more: taking a line out revokes it.
    """
    path, signatures = _paths(settings, recipe)
    if not path.is_file():
        return WaiverSet(Gate())
    document = load_manifest(Waivers, path)
    signed = [_open(envelope, recipe, trusted) for envelope in _read_envelopes(signatures)]
    good = [waiver for waiver in signed if waiver is not None]
    refused = [
        f"{waiver.cve} in {waiver.package}: no trusted signature is over what {path.name} says"
        for waiver in document.waivers
        if waiver not in good
    ]
    return WaiverSet(document.gate, tuple(waiver for waiver in document.waivers if waiver in good), tuple(refused))


def add_waiver(settings: Settings, recipe: str, waiver: Waiver, key: SigningKey, today: date) -> Path:
    """Write `waiver` into the recipe's file and its signature beside it; nothing else is signed along.

    Raises `UsageError` for an expiry in the past or too far away, `ConflictError` when the file has a waiver for the same
    CVE and package, `BadInput` when the file cannot be continued.
    """
    last = today + timedelta(days=LONGEST_DAYS)
    if not today <= waiver.expires <= last:
        raise UsageError(
            f"a waiver cannot expire on {waiver.expires.isoformat()}",
            resolution=f"choose a day from {today.isoformat()} to {last.isoformat()}",
        )
    path, signatures = _paths(settings, recipe)
    text = path.read_text() if path.is_file() else _HEADER.format(name=signatures.name) + "waivers:\n"
    fresh = text.rstrip("\n") + "\n" + _entry(waiver)
    before = load_manifest(Waivers, path).waivers if path.is_file() else ()
    if any((other.cve, other.package) == (waiver.cve, waiver.package) for other in before):
        raise ConflictError(
            f"{path} has a waiver for {waiver.cve} in {waiver.package} already", resolution="take that one out first"
        )
    if load_text(Waivers, fresh, source=str(path)).waivers != (*before, waiver):
        raise BadInput(
            f"{path} cannot be continued", resolution="make `waivers:` its last key, as a list of one per line"
        )
    envelopes = _read_envelopes(signatures)
    envelopes.append(key.envelope(WAIVER_TYPE, {"recipe": recipe, "waiver": waiver.model_dump(mode="json")}))
    # Signature first: a waiver without one counts as none, and a signature without its waiver does nothing.
    signed = json.dumps({"schema_version": 1, "envelopes": envelopes}, indent=1) + "\n"
    write_whole(signatures, signed.encode())
    write_whole(path, fresh.encode())
    return path


def parse_waiver(fields: dict[str, Any]) -> Waiver:
    """Return the waiver that the command line describes. Raises `UsageError`."""
    try:
        return Waiver.model_validate(fields)
    except ValidationError as error:
        lines = [f"  {describe_fault(Waiver, item)}" for item in error.errors()]
        raise UsageError(
            "this is no valid waiver", details="\n".join(lines), resolution="correct the options named above"
        ) from error


def _paths(settings: Settings, recipe: str) -> tuple[Path, Path]:
    folder = settings.project / "manifests/waivers"
    return folder / f"{recipe}.yaml", folder / f"{recipe}.waivers.json"


def _entry(waiver: Waiver) -> str:
    # One flow mapping per line, each string quoted as JSON, so that no reason can end the entry early.
    fields = waiver.model_dump(mode="json")
    return f"  - {{{', '.join(f'{name}: {_quoted(name, value)}' for name, value in fields.items())}}}\n"


def _quoted(name: str, value: str) -> str:
    return value if name == "expires" else json.dumps(value)


def _read_envelopes(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_text())
        envelopes: list[dict[str, Any]] = document["envelopes"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is no file of signatures",
            details=repr(error),
            resolution="restore it, or remove it and waive again",
        ) from error
    return list(envelopes)


def _open(envelope: dict[str, Any], recipe: str, trusted: tuple[PublicKey, ...]) -> Waiver | None:
    """Return the waiver in `envelope`, or None when it is not by a trusted key or is for another recipe."""
    try:
        payload = open_envelope(envelope, WAIVER_TYPE, trusted)
        return Waiver.model_validate(payload["waiver"]) if payload["recipe"] == recipe else None
    except (TrustError, ValidationError, KeyError, TypeError):
        return None
