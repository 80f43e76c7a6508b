"""What this machine sent which host last, so that a secret travels only when it has changed. It tells nobody a value.

A host names a stamp of each secret, which is new with each write (flash/agent/credentials.py). Beside it stands a digest of a
signature over the value: without the job key nobody can find out by trying what the value was.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qtrade.settings import Settings
from qtrade.signing import SigningKey

_DOMAIN = b"qtrade: a secret that was sent"


@dataclass(frozen=True)
class SentSecrets:
    """The notes on one host."""

    path: Path
    host: str
    key: SigningKey

    def reasons(self, values: Mapping[str, bytes], stamps: Mapping[str, str] | None) -> dict[str, str]:
        """Return why each secret has to be sent; those that the host has already are left out.

        `stamps` are the status's `secret_stamps`, None where it has none.
        """
        if stamps is None:
            return dict.fromkeys(values, "the host does not say what it has")
        known = self._read()
        reasons = {name: self._reason(name, value, known.get(name, {}), stamps) for name, value in values.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def note(self, values: Mapping[str, bytes], stamps: Mapping[str, str]) -> None:
        """Remember that the host has these values under these stamps."""
        sent = {
            name: {"stamp": stamps[name], "mark": self._mark(name, value)}
            for name, value in values.items()
            if name in stamps
        }
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({"schema_version": 1, "secrets": {**self._read(), **sent}}, sort_keys=True))
        fresh.replace(self.path)

    def _reason(self, name: str, value: bytes, known: Mapping[str, str], stamps: Mapping[str, str]) -> str:
        if name not in stamps:
            return "the host does not have it"
        if known.get("stamp") != stamps[name]:
            return "this machine did not send it last"
        return "" if known.get("mark") == self._mark(name, value) else "changed"

    def _mark(self, name: str, value: bytes) -> str:
        message = b"\0".join((_DOMAIN, self.host.encode(), name.encode(), value))
        return hashlib.sha256(self.key.sign(message)).hexdigest()

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = dict(json.loads(self.path.read_text())["secrets"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return found


def sent_secrets(settings: Settings, host: str, key: SigningKey) -> SentSecrets:
    """Return the notes on a host."""
    return SentSecrets(settings.state_dir / "sent" / f"{host}.json", host, key)
