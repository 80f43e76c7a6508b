"""Stores of both kinds."""

from collections.abc import Iterator

import pytest

from qtrade.store import LocalStore, Store
from qtrade.store.s3 import S3Objects
from tests.fakes.s3_server import S3Server, s3_server
from tests.fakes.s3_store import CREDENTIALS, open_objects, remote_store


@pytest.fixture
def server(monkeypatch) -> Iterator[S3Server]:
    """A strict S3, and its credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(server, tmp_path) -> Iterator[S3Objects]:
    with open_objects(server.url, tmp_path / "cache/here") as objects:
        yield objects


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path) -> Store:
    """A store in a folder, and one in S3."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return remote_store(request.getfixturevalue("s3"), tmp_path / "cache")
