"""The seal looks into the finished initial RAM filesystems, those that were made earlier too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bake.check_initramfs import initramfs_check_key
from bake.pack import sha256_file
from bake.plan import INITRD, INSTALLER
from bake.run import BakeResult
from flash.agent.kexec import pack_files
from qtrade.errors import NotFound, Refused
from qtrade.settings import load_settings
from qtrade.store import BlobRecord
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def baked(tiny) -> BakeResult:
    return tiny.bake("clean")


def record_of(tiny: TinyProject, digest: str) -> BlobRecord:
    paths = (tiny.settings.store / "records").glob("*.json")
    return next(record for record in map(read, paths) if record.digest == digest)


def read(path: Path) -> BlobRecord:
    return BlobRecord.from_bytes(path.read_bytes())


def private_key() -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


@pytest.fixture(params=[INITRD, INSTALLER])
def planted(request, tiny, baked, tmp_path) -> Iterator[str]:
    """Put a key and a host key into a filesystem that the store has; return its name."""
    name = request.param
    good = record_of(tiny, getattr(baked.image, name).digest)
    spoilt = tmp_path / "spoilt"
    files = {"etc/tls/server.key": private_key(), "etc/ssh/ssh_host_rsa_key": b"x"}
    spoilt.write_bytes(pack_files(files) + tiny.store.open_blob(good.digest).read_bytes())
    digest = sha256_file(spoilt)
    tiny.store.add_blob(spoilt, digest)
    tiny.store.add_record(BlobRecord(good.key, name, digest, tiny.store.open_blob(digest).stat().st_size))
    yield name
    tiny.store.add_record(good)


def test_a_finished_filesystem_passes_and_that_is_remembered(tiny, baked) -> None:
    for name in (INITRD, INSTALLER):
        record = record_of(tiny, getattr(baked.image, name).digest)
        assert tiny.store.find_record(initramfs_check_key(tiny.settings, name, record))
    steps = list(tiny.reporter.steps)
    tiny.bake("again")
    assert tiny.reporter.steps == steps


def test_a_secret_in_it_stops_the_image_and_is_named_by_path(tiny, planted) -> None:
    for _ in range(2):  # a failure is not remembered as a check that was made
        with pytest.raises(Refused) as caught:
            tiny.bake("planted")
        assert caught.value.brief == f"the seal found 2 thing(s) in {planted} that no image may hold"
        assert caught.value.details.splitlines() == [
            f"  {planted}: etc/tls/server.key: a private key (PEM)",
            f"  {planted}: etc/ssh/ssh_host_rsa_key: a file of a machine or of the bake",
        ]
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "planted")
