"""Upload a file to S3 in parts, so that an interrupted upload goes on without sending finished parts again."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from qtrade.errors import TrustError

_MOST_PARTS = 10_000


@dataclass(frozen=True)
class Target:
    """Where a file goes: boto3's client, Bucket and Key; `state` is the file that remembers an upload under way."""

    client: Any
    at: dict[str, str]
    state: Path
    part_bytes: int


@dataclass
class _Progress:
    """An upload under way: its id, and ETag and SHA-256 of each part that the server has taken, by number."""

    upload_id: str
    part_bytes: int
    parts: dict[int, tuple[str, str]]


def upload(target: Target, path: Path, sha256: str) -> None:
    """Upload the file. Raises `TrustError`, leaving nothing on the server, when it does not have this SHA-256."""
    size = path.stat().st_size
    if size <= target.part_bytes:
        content = path.read_bytes()
        _check(path, hashlib.sha256(content).hexdigest(), sha256)
        target.client.put_object(**target.at, Body=content)
        return
    part_bytes = max(target.part_bytes, -(-size // _MOST_PARTS))
    progress = _resume(target, part_bytes) or _begin(target, part_bytes)
    found, parts = _send(target, path, progress)
    try:
        _check(path, found, sha256)
    except TrustError:
        _abort(target, progress)
        raise
    _complete(target, progress, parts)
    target.state.unlink(missing_ok=True)


def _begin(target: Target, part_bytes: int) -> _Progress:
    answer = target.client.create_multipart_upload(**target.at)
    progress = _Progress(answer["UploadId"], part_bytes, {})
    _remember(target, progress)
    return progress


def _resume(target: Target, part_bytes: int) -> _Progress | None:
    """Return the upload that was interrupted, with the parts that both sides know; None when there is none any more."""
    try:
        kept = json.loads(target.state.read_text())
        if kept["at"] != target.at or kept["part_bytes"] != part_bytes:
            return None
        known = {int(number): (etag, sha256) for number, (etag, sha256) in kept["parts"].items()}
        on_server = _list_parts(target, kept["upload_id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchUpload":
            return None
        raise
    parts = {number: part for number, part in known.items() if on_server.get(number) == part[0]}
    return _Progress(kept["upload_id"], part_bytes, parts)


def _list_parts(target: Target, upload_id: str) -> dict[int, str]:
    pages = target.client.get_paginator("list_parts").paginate(**target.at, UploadId=upload_id)
    return {part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", ())}


def _send(target: Target, path: Path, progress: _Progress) -> tuple[str, list[dict[str, Any]]]:
    """Send the parts that the server lacks; return the SHA-256 of the whole file and the list that completes the upload."""
    whole = hashlib.sha256()
    parts: list[dict[str, Any]] = []
    with path.open("rb") as source:
        while content := source.read(progress.part_bytes):
            number = len(parts) + 1
            whole.update(content)
            sha256 = hashlib.sha256(content).hexdigest()
            if number not in progress.parts or progress.parts[number][1] != sha256:
                answer = target.client.upload_part(
                    **target.at, UploadId=progress.upload_id, PartNumber=number, Body=content
                )
                progress.parts[number] = (answer["ETag"], sha256)
                _remember(target, progress)
            parts.append({"PartNumber": number, "ETag": progress.parts[number][0]})
    return whole.hexdigest(), parts


def _complete(target: Target, progress: _Progress, parts: list[dict[str, Any]]) -> None:
    try:
        target.client.complete_multipart_upload(
            **target.at, UploadId=progress.upload_id, MultipartUpload={"Parts": parts}
        )
    except ClientError as error:
        # Completed already, and the answer was lost: the caller looks whether the object is there.
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise


def _abort(target: Target, progress: _Progress) -> None:
    target.client.abort_multipart_upload(**target.at, UploadId=progress.upload_id)
    target.state.unlink(missing_ok=True)


def _remember(target: Target, progress: _Progress) -> None:
    target.state.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.state.with_suffix(".new")
    document = {
        "at": target.at,
        "upload_id": progress.upload_id,
        "part_bytes": progress.part_bytes,
        "parts": progress.parts,
    }
    fresh.write_text(json.dumps(document))
    fresh.replace(target.state)


def _check(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise TrustError(
            f"{path} is not what its digest says",
            details=f"wanted {sha256}\nfound  {found}",
            resolution="delete that file and run the command again",
        )
