"""Identity and votes of the stand-in, as Agave has them: admin_rpc_service.rs, replay_stage.rs, consensus/tower_storage.rs.

An order of another identity counts for gossip at once, and for votes when the replay loop comes round, which may sign one more as before.
"""

import asyncio
import json
import os
import struct
import sys
import time

import ed25519

VOTE_EVERY_S = 0.4
MOST_LOCKOUTS = 31
BEHIND = 128
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# As Rust does when it panics.
PANIC = 101


class Refused(Exception):
    """The admin socket's answer is an error."""


def encode_base58(content):
    number, text = int.from_bytes(content, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(content) - len(content.lstrip(b"\0"))) + text


def address_of(keypair):
    return encode_base58(keypair[32:])


def read_keypair(text):
    """Read a keypair as upstream's read_keypair does: 64 numbers whose halves fit. Raises `ValueError`."""
    keypair = bytes(json.loads(text))
    if len(keypair) != 64 or ed25519.public_key(keypair[:32]) != keypair[32:]:
        raise ValueError("invalid keypair")
    return keypair


def write_tower(keypair, slots):
    """Return a tower file of the layout of tower1_14_11.rs, signed."""
    node = keypair[32:]
    data = node + struct.pack("<Qd", 8, 2 / 3) + node + bytes(32) + b"\0" + struct.pack("<Q", len(slots))
    data += b"".join(struct.pack("<QI", slot, len(slots) - place) for place, slot in enumerate(slots))
    data += b"\0" + struct.pack("<Q", 0) + bytes(48 * 32) + struct.pack("<Q?", 31, True) + struct.pack("<Q", 0)
    data += struct.pack("<Qq", slots[-1], 0) + struct.pack("<IQ", 0, 1) + struct.pack("<Q", slots[-1]) + bytes(33)
    data += struct.pack("<Qq", slots[-1], 0)
    return struct.pack("<I", 1) + ed25519.sign(keypair[:32], data) + struct.pack("<Q", len(data)) + data


def read_tower(content, node):
    """Return the slots of a tower of that node. Raises `ValueError`, as a tower of somebody else or a torn one does upstream."""
    try:
        start = 4 + 64 + 8
        if content[start : start + 32] != node:
            raise ValueError("The tower is of another node")
        (count,) = struct.unpack_from("<Q", content, start + 32 + 16 + 65)
        place = start + 32 + 16 + 65 + 8
        return [struct.unpack_from("<QI", content, place + 12 * number)[0] for number in range(count)]
    except struct.error as error:
        raise ValueError("unexpected end of file") from error


class Voting:
    """Who the validator is, with what it votes, and what it voted."""

    def __init__(self, keypair, *, tower, ledger, minor, slot, cluster, is_behind):
        self.node = self.replayed = keypair
        self.voters = [keypair]
        self._tower, self._ledger, self._minor = tower, ledger, minor
        self._slot, self._cluster, self._is_behind = slot, cluster, is_behind
        self._slots = self._load(keypair)
        self.process = f"{os.getpid()}@{time.monotonic():.3f}"

    def set_identity(self, keypair, *, require_tower, require_history):
        """Take another identity. Raises `Refused` in upstream's words."""
        address = address_of(keypair)
        if require_tower:
            try:
                read_tower(self._path(keypair).read_bytes(), keypair[32:])
            except (OSError, ValueError) as error:
                raise Refused(f"Unable to load tower file for identity {address}: {error}") from error
        has_history = bool(self._cluster and self._cluster.facts.get("alpenglow"))
        if self._minor >= (4, 3) and require_history and has_history and not self._history(keypair).exists():
            raise Refused(
                f"Unable to load vote history file for identity {address}: file missing. The vote account has prior Alpenglow votes. "
                "Ensure the vote history file is present or (dangerous) use --do-not-require-vote-history if you know what you're doing"
            )
        self.node = keypair

    def add_voter(self, keypair):
        """Add a key to vote with. Raises `Refused` for one that is there."""
        if keypair in self.voters:
            raise Refused("Authorized voter already present")
        self.voters.append(keypair)

    async def run(self):
        """The replay loop: vote, then see whether the identity has changed."""
        while True:
            self._vote()
            if self.node != self.replayed:
                self._slots = self._load(self.node)
                print(f"Identity changed from {address_of(self.replayed)} to {address_of(self.node)}", flush=True)
                self.replayed = self.node
            await asyncio.sleep(VOTE_EVERY_S)

    def _vote(self):
        keypair, slot = self.replayed, self._slot()
        # A spare votes for nobody: the vote account names another node.
        if self._cluster and self._cluster.facts["node"] != address_of(keypair):
            return
        if keypair not in self.voters or (self._slots and slot <= self._slots[-1]):
            return
        after = self._slots[-1] if self._slots else None
        if after is None and self._cluster and slot <= self._cluster.last_vote():
            panic("Submitting old vote")
        self._slots = [*self._slots, slot][-MOST_LOCKOUTS:]
        self._save(self._path(keypair), write_tower(keypair, self._slots))
        if self._minor >= (4, 3):
            self._save(self._history(keypair), f"vote history of {address_of(keypair)} to {slot}\n".encode())
        if self._cluster:
            self._cluster.log(address_of(keypair), self.process, slot, after)

    def _load(self, keypair):
        path = self._path(keypair)
        if not path.exists():
            if self._is_behind() and keypair != getattr(self, "replayed", keypair):
                panic("the tower is missing, and the root bank is older than the last vote")
            print(
                f"Failed to load tower, file missing for {address_of(keypair)}. Creating a new tower from bankforks",
                flush=True,
            )
            return []
        try:
            return read_tower(path.read_bytes(), keypair[32:])
        except ValueError as error:
            panic(f"Unable to load new tower when attempting to change identity: {error}")

    def _path(self, keypair):
        return self._tower / f"tower-1_9-{address_of(keypair)}.bin"

    def _history(self, keypair):
        return self._ledger / f"vote_history-{address_of(keypair)}.bin"

    def _save(self, path, content):
        # No fsync, as upstream ("hurts performance").
        fresh = path.with_suffix(".bin.new")
        fresh.write_bytes(content)
        fresh.rename(path)


def panic(message):
    print(f"thread 'solReplayStage' panicked: {message}", file=sys.stderr, flush=True)
    os._exit(PANIC)
