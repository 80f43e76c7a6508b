"""Read what a host's identity.py answers (role agave). A host whose answer is not as it should be has not answered."""

import base64
import binascii
import hashlib
from typing import Any

from flash.identity.facts import HostState, Stop, StopKind, Votes
from flash.identity.tower import UnreadableTower, read_tower
from flash.identity.world import Order, VoteFiles
from qtrade.errors import HostError


def read_state(host: str, identity: str, answer: dict[str, Any]) -> HostState:
    """Return a host's state. Raises `HostError` for an answer that is none."""
    try:
        major, minor = str(answer["version"]).split(".")[:2]
        return HostState(
            host=host,
            boot_id=str(answer["boot_id"]),
            running=answer["running"],
            unstaked=str(answer["unstaked"]),
            minor=(int(major), int(minor)),
            profile=str(answer["profile"]),
            vote_account=str(answer["vote_account"]),
            not_ready=tuple(answer.get("not_ready", ())),
            slot=answer.get("slot"),
            fence=int(answer["fence"]),
            taken=int(answer["taken"]),
            challenge=str(answer.get("challenge", "")),
            votes=read_votes(host, identity, read_files(answer)),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise HostError(f"{host}: identity.py told no state ({error!r})", resolution="see its image") from error


def read_stop(host: str, identity: str, number: int, answer: dict[str, Any]) -> tuple[Stop, VoteFiles]:
    """Return the host's word that it has left the identity, with the files. Raises `HostError` for an answer that is none."""
    try:
        files = read_files(answer)
        stop = Stop(
            host,
            StopKind.STATEMENT,
            number,
            at_slot=None,
            clean=answer["clean"] is True,
            boot_id=str(answer["boot_id"]),
            taken=int(answer["taken"]),
            running=answer["running"],
            votes=read_votes(host, identity, files),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise HostError(f"{host}: identity.py made no statement ({error!r})", resolution="see its image") from error
    return stop, files


def read_files(answer: dict[str, Any]) -> VoteFiles:
    """Return the files of an answer by kind. Raises `ValueError`."""
    try:
        return {str(kind): base64.b64decode(text, validate=True) for kind, text in answer["files"].items()}
    except binascii.Error as error:
        raise ValueError("files are no base64") from error


def read_votes(host: str, identity: str, files: VoteFiles) -> Votes:
    """Return what the files say was voted; a tower that cannot be read says why."""
    digests = {kind: hashlib.sha256(content).hexdigest() for kind, content in files.items()}
    votes = Votes(host, digests.get("tower"), digests.get("history"))
    if "tower" not in files:
        return votes
    try:
        last_vote = read_tower(files["tower"], identity).last_vote
    except UnreadableTower as error:
        return Votes(host, votes.tower_sha256, votes.history_sha256, fault=str(error))
    return Votes(host, votes.tower_sha256, votes.history_sha256, last_vote)


def write_order(order: Order) -> dict[str, Any]:
    """Return an order as identity.py reads it."""
    return {
        "number": order.number,
        "boot_id": order.boot_id,
        "challenge": order.challenge,
        "digests": order.digests,
        "files": {kind: base64.b64encode(content).decode() for kind, content in order.files.items()},
        "lost": order.lost,
    }
