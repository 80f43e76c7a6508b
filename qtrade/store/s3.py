"""Objects in a bucket of any S3: conditional writes, checked transfers, presigned URLs. Needs boto3 (the extra `s3`)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from qtrade.errors import BadInput, NotFound, QtradeError
from qtrade.settings import S3Address
from qtrade.store.objects import Changed, Entry, Exists, Missing
from qtrade.store.s3_fetch import BROKEN, fetch
from qtrade.store.s3_upload import Target, upload

# Another conditional write of the same key was under way: the server asks for another try.
_BUSY, _UNMET, _ABSENT = 409, 412, 404
_TRIES = 6
_PART_BYTES = 16 << 20
_DEFAULT_REGION = "us-east-1"


class S3Objects:
    """`Objects` below a prefix of a bucket.

    `scratch` keeps what is known of uploads under way. `part_bytes` is the size of a part of a multipart upload, and of the
    largest object that is sent whole (S3 takes parts of 5 MiB and more, and 10000 of them). Each request gets so many
    `attempts`, with growing pauses, when the server is overloaded or the connection breaks.
    """

    def __init__(
        self, address: S3Address, scratch: Path, *, part_bytes: int = _PART_BYTES, attempts: int = _TRIES
    ) -> None:
        self._address, self._scratch, self._part_bytes = address, scratch, part_bytes
        self._client = _connect(address, attempts)
        self._prefix = f"{address.prefix}/" if address.prefix else ""

    def get(self, key: str) -> tuple[bytes, str]:
        """Read; a broken transfer is tried again. Raises `Missing`."""
        for attempt in range(1, _TRIES + 1):
            with self._errors(key):
                try:
                    answer = self._client.get_object(**self._at(key))
                    return answer["Body"].read(), answer["ETag"]
                except BROKEN:
                    if attempt == _TRIES:
                        raise
            _pause(attempt)
        raise AssertionError  # the last attempt returned or raised

    def put(self, key: str, content: bytes) -> None:
        """Write."""
        self._put(key, content)

    def put_new(self, key: str, content: bytes) -> None:
        """Write with `If-None-Match: *`. Raises `Exists`."""
        if not self._put(key, content, IfNoneMatch="*") and self._content(key) != content:
            raise Exists(key)

    def put_if(self, key: str, content: bytes, etag: str | None) -> None:
        """Write with `If-Match`, or `If-None-Match: *` for None. Raises `Changed`."""
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        if not self._put(key, content, **condition) and self._content(key) != content:
            raise Changed(key)

    def size(self, key: str) -> int | None:
        """Ask for the head of the object."""
        try:
            with self._errors(key):
                return int(self._client.head_object(**self._at(key))["ContentLength"])
        except Missing:
            return None

    def put_file(self, key: str, path: Path, sha256: str) -> None:
        """Upload, in parts where the file is large; finished parts of an interrupted upload are not sent again."""
        target = Target(self._client, self._at(key), self._scratch / "uploads" / f"{sha256}.json", self._part_bytes)
        if self.size(key) == path.stat().st_size:
            target.state.unlink(missing_ok=True)
            return
        with self._errors(key):
            upload(target, path, sha256)
        if self.size(key) != path.stat().st_size:
            raise QtradeError(
                f"{self._address} did not keep {key} whole", resolution="run the same command again; it goes on"
            )

    def fetch_file(self, key: str, path: Path, sha256: str, size: int) -> None:
        """Download with ranges. Raises `Missing`, `TrustError`."""
        with self._errors(key):
            fetch(self._client, self._at(key), path, sha256, size)

    def list(self, folder: str) -> tuple[Entry, ...]:
        """List by pages."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors(folder):
            found = [
                Entry(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"].timestamp())
                for page in pages.paginate(Bucket=self._address.bucket, Prefix=self._prefix + folder)
                for item in page.get("Contents", ())
            ]
        return tuple(sorted(found, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """Delete."""
        with self._errors(key):
            self._client.delete_object(**self._at(key))

    def sweep(self, older_than_s: float) -> int:
        """Abort multipart uploads that began that long ago."""
        limit_s = time.time() - older_than_s
        pages = self._client.get_paginator("list_multipart_uploads")
        with self._errors("uploads"):
            stale = [
                {"Key": item["Key"], "UploadId": item["UploadId"]}
                for page in pages.paginate(Bucket=self._address.bucket, Prefix=self._prefix)
                for item in page.get("Uploads", ())
                if item["Initiated"].timestamp() < limit_s
            ]
            for item in stale:
                self._client.abort_multipart_upload(Bucket=self._address.bucket, **item)
        return len(stale)

    def url(self, key: str, expires_s: int) -> str | None:
        """Return a presigned GET."""
        with self._errors(key):
            made = self._client.generate_presigned_url("get_object", Params=self._at(key), ExpiresIn=expires_s)
        return str(made)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._prefix + key}

    def _put(self, key: str, content: bytes, **condition: str) -> bool:
        """Write; return False when the condition does not hold, which our own write may be the cause of: its answer was lost."""
        for attempt in range(1, _TRIES + 1):
            with self._errors(key):
                try:
                    self._client.put_object(**self._at(key), Body=content, **condition)
                except ClientError as error:
                    status = _status(error)
                    # A server may answer 404 to If-Match where the object is gone.
                    if condition and status in (_UNMET, _ABSENT) and _code(error) != "NoSuchBucket":
                        return False
                    if status != _BUSY or attempt == _TRIES:
                        raise
                else:
                    return True
            _pause(attempt)
        raise AssertionError  # the last attempt returned or raised

    def _content(self, key: str) -> bytes | None:
        try:
            return self.get(key)[0]
        except Missing:
            return None

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn what boto3 raises into errors with a cure."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise BadInput(
                f"there are no credentials for {self._address}",
                details=str(error),
                resolution="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            ) from error
        except ClientError as error:
            raise self._explain(key, error) from error
        except BotoCoreError as error:
            raise QtradeError(
                f"{self._address} cannot be reached or broke off: {key}",
                details=str(error),
                resolution="check QTRADE_S3_ENDPOINT and the network; the same command goes on where this one stopped",
            ) from error

    def _explain(self, key: str, error: ClientError) -> QtradeError:
        code, status = _code(error), _status(error)
        if code == "NoSuchBucket":
            return NotFound(f"there is no bucket {self._address.bucket}", resolution="make it, or correct QTRADE_STORE")
        if status == _ABSENT:
            return Missing(key)
        cure = {
            403: "check the credentials and what they allow, and this machine's clock",
            503: "the server is overloaded: try again later",
        }
        return QtradeError(
            f"{self._address} refused {key}: {code}",
            details=str(error),
            resolution=cure.get(status, "read what the server says"),
        )


@cache
def _session() -> Any:
    """Return the one session of this process: it reads the descriptions of the API, which takes long, once."""
    return boto3.Session()


def _connect(address: S3Address, attempts: int) -> Any:
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation=address.checksums,
        response_checksum_validation=address.checksums,
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=60,
        # The digest of every body is part of its signature, so any S3 refuses a body that was damaged on its way.
        s3={"payload_signing_enabled": True, "addressing_style": "path" if address.endpoint else "auto"},
    )
    session = _session()
    region = session.region_name or _DEFAULT_REGION
    return session.client("s3", endpoint_url=address.endpoint, region_name=region, config=config)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _pause(attempt: int) -> None:
    time.sleep(min(0.1 * 2**attempt, 5.0))
