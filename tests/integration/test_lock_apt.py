"""Packages of a vendor's signed apt repository: from the pinned key to the bytes, or refused."""

import gzip
import hashlib
import lzma
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bake.lock.apt import lock_apt
from bake.lock.document import LockedFile
from qtrade.errors import BadInput, NotFound, TrustError
from qtrade.manifest.component import AptComponent
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.upstream_server import serve_upstream

pytestmark = pytest.mark.integration

BUILD = Path(__file__).resolve().parents[1] / "standins/build.py"
PACKAGE = "datadog-agent"
VERSION = "1:7.78.2-1"
INDEX = "main/binary-amd64/Packages"


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The repository of the stand-ins, as it was built."""
    target = tmp_path_factory.mktemp("apt")
    subprocess.run([sys.executable, BUILD, "--out", target], check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def repository(settings, built) -> Path:
    """A copy of the repository, where the recipe looks for it."""
    return shutil.copytree(built, settings.state_dir / "apt", ignore=shutil.ignore_patterns("gnupg"))


def lock(settings: Settings, **changes: Any) -> LockedFile:
    places = {"repository": "file:{state}/apt", "key": "{state}/apt/key.asc"}
    fields = {"kind": "apt", **places, "package": PACKAGE, "version": VERSION, "standin": True, **changes}
    return lock_apt(settings, "part", AptComponent.model_validate(fields))


def kept(settings: Settings) -> list[Path]:
    return [path for path in (settings.cache_dir / "blobs").rglob("*") if path.is_file()]


def deb_of(repository: Path) -> Path:
    (deb,) = (repository / "pool").glob(f"{PACKAGE}_*.deb")
    return deb


def fingerprint_of(key: Path) -> str:
    done = subprocess.run(["gpg", "--show-keys", "--with-colons", key], check=True, capture_output=True, text=True)
    return next(line.split(":")[9] for line in done.stdout.splitlines() if line.startswith("fpr:"))


def test_a_package_is_locked_with_its_digest_and_who_signed(settings, repository) -> None:
    fingerprint = fingerprint_of(repository / "key.asc")
    locked = lock(settings, fingerprint=fingerprint)
    content = deb_of(repository).read_bytes()
    assert locked.sha256 == hashlib.sha256(content).hexdigest()
    assert (locked.version, locked.size, locked.signed_by) == (VERSION, len(content), fingerprint)
    assert (locked.address, locked.digest_from) == (f"pool/{deb_of(repository).name}", "Packages")
    assert (settings.cache_dir / "blobs" / locked.sha256 / locked.file).read_bytes() == content


def test_a_repository_with_detached_signature_packed_index_and_key_at_an_address(settings, repository) -> None:
    fingerprint = fingerprint_of(repository / "key.asc")
    with serve_upstream() as upstream:
        for path in repository.rglob("*"):
            if path.is_file() and path.name not in ("InRelease", "Packages"):
                upstream.files[f"/{path.relative_to(repository)}"] = path.read_bytes()
        address = {"repository": f"{upstream.url}/", "key": f"{upstream.url}/key.asc"}
        locked = lock(settings, **address, fingerprint=["A" * 40, fingerprint], standin=False)
        assert locked.signed_by == fingerprint
        assert "/dists/stable/Release.gpg" in upstream.paths()
        assert f"/dists/stable/{INDEX}.gz" in upstream.paths()
        assert upstream.paths()[-1] == f"/{locked.address}"
        with pytest.raises(TrustError, match="is signed by"):
            lock(settings, **address, fingerprint="A" * 40, standin=False)


def test_a_binary_key_serves_too(settings, repository) -> None:
    ring = subprocess.run(
        ["gpg", "--dearmor"], input=(repository / "key.asc").read_bytes(), capture_output=True, check=True
    )
    (repository / "key.gpg").write_bytes(ring.stdout)
    assert lock(settings, key="{state}/apt/key.gpg").version == VERSION


def test_an_altered_package_is_refused_and_not_kept(settings, repository) -> None:
    deb = deb_of(repository)
    deb.write_bytes(deb.read_bytes()[:-1] + b"!")
    with pytest.raises(TrustError, match="is not the file that was pinned"):
        lock(settings)
    assert kept(settings) == []


def spoil_index(repository: Path, packed: bytes | None) -> None:
    """Change the index in the form that is read first."""
    index = repository / "dists/stable" / INDEX
    text = index.read_bytes().replace(b"Section", b"section")
    for suffix in (".gz", ""):
        index.with_name(f"Packages{suffix}").unlink()
    (index.with_name("Packages.gz") if packed is not None else index).write_bytes(packed or text)


@pytest.mark.parametrize("packed", [None, gzip.compress(b"Package: datadog-agent\n", mtime=0)])
def test_an_altered_index_is_refused(settings, repository, packed) -> None:
    spoil_index(repository, packed)
    with pytest.raises(TrustError, match=r"Packages(\.gz)? is not the file that the release file names"):
        lock(settings)
    assert kept(settings) == []


def test_an_xz_index_that_the_release_does_not_name_is_not_read(settings, repository) -> None:
    (repository / f"dists/stable/{INDEX}.xz").write_bytes(
        lzma.compress(b"Package: datadog-agent\nVersion: 1:7.78.2-1\n")
    )
    assert lock(settings).version == VERSION


def test_an_altered_release_is_refused(settings, repository) -> None:
    release = repository / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("Suite: stable", "Suite: staple"))
    with pytest.raises(TrustError, match="the signature of InRelease does not hold"):
        lock(settings)


def test_an_altered_release_with_a_detached_signature_is_refused(settings, repository) -> None:
    (repository / "dists/stable/InRelease").unlink()
    release = repository / "dists/stable/Release"
    release.write_text(release.read_text().replace("Suite: stable", "Suite: staple"))
    with pytest.raises(TrustError, match="the signature of Release does not hold"):
        lock(settings)


def test_an_unsigned_release_is_refused(settings, repository) -> None:
    shutil.copyfile(repository / "dists/stable/Release", repository / "dists/stable/InRelease")
    with pytest.raises(TrustError, match="the signature of InRelease does not hold"):
        lock(settings)


def test_another_key_than_the_pinned_one_is_refused_and_named(settings, repository) -> None:
    found = fingerprint_of(repository / "key.asc")
    with pytest.raises(TrustError, match=f"InRelease is signed by {found}, not by {'A' * 40}"):
        lock(settings, fingerprint="A" * 40)


def test_a_missing_version_lists_those_that_there_are(settings, repository) -> None:
    with pytest.raises(NotFound, match="has no datadog-agent=1:9") as caught:
        lock(settings, version="1:9")
    assert caught.value.details == f"versions there: {VERSION}"


def test_a_missing_suite_and_a_missing_section_are_errors(settings, repository) -> None:
    with pytest.raises(NotFound, match=r"there is no file:.*unstable/Release"):
        lock(settings, suite="unstable")
    with pytest.raises(NotFound, match="the release file names no contrib"):
        lock(settings, section="contrib")


def test_a_missing_key_and_a_key_that_is_none_are_errors(settings, repository) -> None:
    with pytest.raises(NotFound, match="there is no repository key"):
        lock(settings, key="keys/vendor.asc")
    for text in ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n???\n-----END", "<html>not found</html>"):
        (repository / "key.asc").write_text(text)
        with pytest.raises(BadInput, match="no ASCII-armoured OpenPGP key"):
            lock(settings)
