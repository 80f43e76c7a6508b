#!/usr/bin/python3 -IB
"""The staked identity on this host. `identity.py state|release|take`: a JSON object on stdin, one on stdout.

`qtrade identity` decides who signs; this sees that what it was told still holds when it arrives. An order has a number, which must be
greater than any that was seen, and for a take the challenge that `state` gave in this boot, a moment ago: an order that was held up
on its way does nothing. The staked key comes on stdin and goes on to the validator's stdin; no file ever holds it.
Exit code 0: done, 1: not done and why, 2: wrong usage.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "/opt/agave/current/bin/agave-validator"
READY = "/usr/bin/qtrade-agave-ready"
LEDGER = Path("/mnt/ledger")
STATE = Path("/var/lib/agave")
# Gone with the unit, and with the boot.
RUN = Path("/run/agave")
CONFIG = Path("/run/qtrade/state/config/current/agave/validator.json")
TABLE = Path("/usr/lib/qtrade/agave/start.json")
PROC = Path("/proc")
# How long a challenge is good, how long files must not change after the identity was left, and how long that may take.
CHALLENGE_S = 60.0
SETTLE_S = 3.0
WITHIN_S = 30.0
HISTORY_SINCE = (4, 3)
MOST_BYTES = 64 * 1024 * 1024
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Refusal(Exception):
    """This host does not do what it was told."""


def address_of(keypair: bytes) -> str:
    """Return the public key of 64 bytes, as Solana writes it. Raises `Refusal`."""
    if len(keypair) != 64:
        raise Refusal("a keypair has 64 numbers")
    number, text = int.from_bytes(keypair[32:], "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (32 - len(keypair[32:].lstrip(b"\0"))) + text


class Validator:
    """The running validator, through its own program."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def identity(self) -> str | None:
        """Return the identity that it has now, None where none runs. Raises `Refusal` where one runs and does not say."""
        done = self._run("contact-info")
        found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Identity: ")]
        if done.returncode == 0 and found:
            return found[0]
        if self._is_alive():
            raise Refusal(f"a validator runs and does not say as whom: {done.stderr.strip()[-300:]}")
        return None

    def set_identity(self, keypair: bytes, *options: str) -> None:
        """Give it another identity. Raises `Refusal` with its own words."""
        self._must("set-identity", *options, keypair=keypair)

    def set_voter(self, keypair: bytes | None) -> None:
        """Make this the one key that it votes with; None: it votes no more. Raises `Refusal`."""
        self._must("authorized-voter", "remove-all")
        if keypair is not None:
            self._must("authorized-voter", "add", keypair=keypair)

    def wait_for_window(self, within_s: float) -> None:
        """Wait for two minutes in which it leads no slot, as upstream's guide does. Raises `Refusal` when there are none in time."""
        words = ("wait-for-restart-window", "--min-idle-time", "2", "--skip-new-snapshot-check")
        command = [PROGRAM, "--ledger", str(self._ledger), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=within_s)
        except subprocess.TimeoutExpired as error:
            raise Refusal(f"no two minutes without leader slots began within {within_s:.0f} s") from error
        if done.returncode != 0:
            raise Refusal(f"agave-validator {words[0]}: {(done.stderr or done.stdout).strip()[-500:]}")

    def _must(self, *words: str, keypair: bytes | None = None) -> None:
        done = self._run(*words, keypair=keypair)
        if done.returncode != 0:
            raise Refusal(f"agave-validator {' '.join(words[:2])}: {(done.stderr or done.stdout).strip()[-500:]}")

    def _run(self, *words: str, keypair: bytes | None = None) -> subprocess.CompletedProcess[str]:
        given = json.dumps(list(keypair)) if keypair is not None else ""
        command = [PROGRAM, "--ledger", str(self._ledger), *words]
        try:
            return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise Refusal(f"agave-validator {' '.join(words[:2])} does not end") from error

    def _is_alive(self) -> bool:
        """Say whether any validator of this host runs, also one that somebody started by hand."""
        for path in PROC.glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            # A script has its interpreter before it.
            if any(Path(os.fsdecode(word)).name == "agave-validator" for word in words[:3]) and b"--identity" in words:
                return True
        return False


class Host:
    """This host's part in the hand-over of one identity."""

    def __init__(self, identity: str, validator: Validator, *, ledger: Path, state: Path, run: Path) -> None:
        if not identity or set(identity) - set(BASE58):
            raise Refusal("identity is no public key")
        self.identity, self.validator = identity, validator
        self._ledger, self._run = ledger, run
        self._unstaked = state / "unstaked-identity.json"
        self._record = state / "identities" / f"{identity}.json"
        self._names = {"tower": f"tower-1_9-{identity}.bin", "history": f"vote_history-{identity}.bin"}

    def state(self) -> dict[str, Any]:
        """Return what there is to know, and a fresh challenge."""
        challenge = secrets.token_hex(16)
        if self._run.is_dir():
            note = {"challenge": challenge, "at": _uptime()}
            write_durably(self._run / "identity-challenge.json", json.dumps(note).encode())
        return {**self._facts(), "challenge": challenge}

    def release(self, number: int) -> dict[str, Any]:
        """Leave the identity and say what was voted. `clean`: it was left because of such an order, and no file has changed since."""
        record = self._read_record()
        if number < record["fence"]:
            raise Refusal(f"number {number} is older than {record['fence']}, which this host was given before")
        record["fence"] = number
        self._write_record(record)
        if self.validator.identity() == self.identity:
            self._leave()
            record["left"] = self._settle()
            self._write_record(record)
        facts = self._facts()
        clean = record["left"] is not None and facts["running"] != self.identity and record["left"] == self._digests()
        return {**facts, "clean": clean}

    def take(self, order: dict[str, Any], keypair: bytes) -> dict[str, Any]:
        """Take the identity, on these files and no others. Raises `Refusal`; then the validator is unstaked, as before."""
        record = self._read_record()
        if order["number"] <= record["fence"]:
            raise Refusal(
                f"number {order['number']} is not greater than {record['fence']}, which this host was given before"
            )
        self._use_challenge(order)
        if address_of(keypair) != self.identity:
            raise Refusal("the keypair is not that of the identity")
        running, unstaked = self.validator.identity(), self._unstaked_address()
        if running != unstaked:
            raise Refusal(f"the validator runs as {running}, not as its unstaked self {unstaked}")
        # From here on it may have signed, whatever becomes of this process.
        self._write_record({"fence": order["number"], "taken": order["number"], "left": None})
        for kind in self._names:
            self._place(kind, order["digests"].get(kind), order["files"].get(kind), order["number"])
        options = ["--require-tower"] if order["digests"].get("tower") else []
        if order["lost"] and self._minor() >= HISTORY_SINCE:
            options.append("--do-not-require-vote-history")
        try:
            # With another node's identity the vote key alone votes for nobody.
            self.validator.set_voter(keypair)
            self.validator.set_identity(keypair, *options)
            _wait_for(
                lambda: self.validator.identity() == self.identity, "the validator does not show the new identity"
            )
        except Refusal:
            self._leave()
            raise
        return self._facts()

    def _leave(self) -> None:
        self.validator.set_voter(None)
        unstaked = self._unstaked_address()
        if self.validator.identity() != unstaked:
            self.validator.set_identity(self._unstaked_key())
        _wait_for(lambda: self.validator.identity() == unstaked, "the validator does not leave the identity")

    def _settle(self) -> dict[str, str | None]:
        """Return the digests once they have not changed for a while: a vote may have been on its way. Raises `Refusal`."""
        deadline = time.monotonic() + WITHIN_S
        last, since = self._digests(), time.monotonic()
        while time.monotonic() - since < SETTLE_S:
            if time.monotonic() > deadline:
                raise Refusal("the tower is still being written, although the validator has left the identity")
            time.sleep(SETTLE_S / 10)
            now = self._digests()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def _facts(self) -> dict[str, Any]:
        record = self._read_record()
        table = _read_json(TABLE)
        files = {kind: path.read_bytes() for kind, path in self._paths() if path.is_file()}
        return {
            "boot_id": _boot_id(),
            "running": self.validator.identity(),
            "unstaked": self._unstaked_address(),
            "version": table.get("version", ""),
            "profile": table.get("profile", ""),
            "vote_account": _read_json(CONFIG).get("vote_account", ""),
            "fence": record["fence"],
            "taken": record["taken"],
            "files": {kind: base64.b64encode(content).decode() for kind, content in files.items()},
        }

    def _use_challenge(self, order: dict[str, Any]) -> None:
        path = self._run / "identity-challenge.json"
        given = _read_json(path)
        path.unlink(missing_ok=True)
        if not given or not secrets.compare_digest(str(given["challenge"]), str(order["challenge"])):
            raise Refusal("the order answers no challenge of this host's: it was asked, or has booted, since")
        if order["boot_id"] != _boot_id():
            raise Refusal("the order is for an earlier boot")
        if not 0 <= _uptime() - given["at"] <= CHALLENGE_S:
            raise Refusal(f"the order is more than {CHALLENGE_S:.0f} s old")

    def _place(self, kind: str, digest: str | None, content: str | None, number: int) -> None:
        """See that the file is the one of the order; one that is not to count is set aside, and nothing brings it back."""
        path = self._ledger / self._names[kind]
        if digest is None:
            if path.exists():
                path.rename(path.with_name(f"{path.name}.before-{number}"))
            return
        if content is not None:
            write_durably(path, base64.b64decode(content, validate=True))
        if self._digests()[kind] != digest:
            raise Refusal(f"the {kind} file here is not the one that the order names")

    def _digests(self) -> dict[str, str | None]:
        return {
            kind: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            for kind, path in self._paths()
        }

    def _paths(self) -> list[tuple[str, Path]]:
        return [(kind, self._ledger / name) for kind, name in self._names.items()]

    def _unstaked_key(self) -> bytes:
        return bytes(json.loads(self._unstaked.read_text()))

    def _unstaked_address(self) -> str:
        return address_of(self._unstaked_key()) if self._unstaked.is_file() else ""

    def _minor(self) -> tuple[int, ...]:
        return tuple(int(part) for part in str(_read_json(TABLE).get("version", "0.0")).split(".")[:2])

    def _read_record(self) -> dict[str, Any]:
        return {"fence": 0, "taken": 0, "left": None, **_read_json(self._record)}

    def _write_record(self, record: dict[str, Any]) -> None:
        self._record.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._record, json.dumps(record).encode())


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that a power cut leaves the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _uptime() -> float:
    """Return seconds that nobody sets and that count sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wait_for(is_done: Any, otherwise: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_done():
        if time.monotonic() > deadline:
            raise Refusal(otherwise)
        time.sleep(0.2)


def _read_readiness() -> dict[str, Any]:
    """Return what the readiness program says (ready.py)."""
    done = subprocess.run([READY], capture_output=True, text=True, check=False, timeout=WITHIN_S)
    try:
        verdict = json.loads(done.stdout)
        return {"not_ready": list(verdict["reasons"]), "slot": verdict["slot"]}
    except (ValueError, LookupError, TypeError):
        return {"not_ready": [f"qtrade-agave-ready gave no verdict: {done.stderr.strip()[-200:]}"], "slot": None}


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One order at a time; the lock ends with its holder."""
    with (state / "identities.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def carry_out(verb: str, request: dict[str, Any], host: Host) -> dict[str, Any]:
    """Do what the verb says."""
    if verb == "state":
        return {**host.state(), **_read_readiness()}
    if verb == "release":
        return host.release(int(request["number"]))
    return host.take(request["order"], bytes(request["keypair"]))


def main(words: list[str]) -> int:
    """Read, do, print."""
    if len(words) != 1 or words[0] not in ("state", "release", "take"):
        sys.stderr.write("usage: identity.py state|release|take, with JSON on stdin\n")
        return 2
    answer: dict[str, Any]
    try:
        request = json.loads(sys.stdin.buffer.read(MOST_BYTES))
        if words[0] == "release" and request.get("window_s") and Validator(LEDGER).identity() == request["identity"]:
            # Before the lock: others may look meanwhile.
            Validator(LEDGER).wait_for_window(float(request["window_s"]))
        with _alone(STATE):
            host = Host(request["identity"], Validator(LEDGER), ledger=LEDGER, state=STATE, run=RUN)
            answer = {"ok": True, "nonce": request["nonce"], **carry_out(words[0], request, host)}
    except (Refusal, OSError) as error:
        answer = {"ok": False, "error": str(error)}
    except (ValueError, LookupError, TypeError) as error:
        # Not its text: it could quote what was sent.
        answer = {"ok": False, "error": f"the request is not as it should be ({type(error).__name__})"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
