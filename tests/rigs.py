"""Lab hosts for the tests that boot machines, driven by the same commands that people type.

`tests/e2e` and `tests/torture` take their fixtures from here, each through a conftest of its own.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.lab import host as lab
from flash.lab import setup
from flash.ssh import target_for
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings, load_settings
from qtrade.ssh import SshTarget
from tests.fakes.documents import fields_of
from tests.fakes.lab_layers import have_turn

SECRET = "0123456789abcdef0123456789abcdef"  # shaped like a Datadog key
QTRADE = Path(sys.executable).parent / "qtrade"


@dataclass(frozen=True)
class LabRig:
    """A lab host with the ways in that tests need."""

    settings: Settings
    name: str

    @property
    def host(self) -> lab.LabHost:
        return lab.status(self.settings, self.name).host

    @property
    def link(self) -> AgentLink:
        return AgentLink(target_for(self.settings, load_host(self.settings, self.name)))

    @property
    def operator(self) -> SshTarget:
        return target_for(self.settings, load_host(self.settings, self.name), user="operator")

    def sh(self, command: str, *, check: bool = True) -> str:
        return self.operator.run(command, check=check).stdout.strip()

    def rows(self) -> list[str]:
        """Return the rows that the first boot wrote into PostgreSQL, with their times."""
        return self.query("select name, applied_at from schema_migrations order by 1")

    def query(self, sql: str) -> list[str]:
        """Return the lines of an answer, as operators ask."""
        return self.sh(f'psql -U qtrade_readonly -d qtrade -Atc "{sql}"').splitlines()

    def ledger_sha256(self) -> str:
        with self.host.paths.ledger.open("rb") as disk:
            return hashlib.file_digest(disk, "sha256").hexdigest()


def qtrade(
    *args: str, check: bool = True, env: dict[str, str] | None = None, timeout_s: float = 1500
) -> subprocess.CompletedProcess[str]:
    """Run the command line as people do."""
    done = subprocess.run(
        [QTRADE, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode != 0:
        pytest.fail(f"qtrade {' '.join(args)}: {done.returncode}\n{done.stderr[-4000:]}")
    return done


def qtrade_json(*args: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """Run a command with --json and return its document."""
    return fields_of(qtrade(*args, "--json", env=env).stdout)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Give the tests a store of their own: layers are kept from run to run, versions are not."""
    made = load_settings()
    os.environ["QTRADE_STATE_DIR"] = str(made.state_dir)
    os.environ["QTRADE_STORE"] = str(made.state_dir / "e2e-store")
    os.environ["E2E_DATADOG_KEY"] = SECRET
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(load_settings().store / "versions", ignore_errors=True)
        if isinstance(made.store, Path):
            _take_layers(made.store, made.state_dir / "e2e-store")


def _take_layers(theirs: Path, own: Path) -> None:
    """Begin with the layers that the integration tests, or a demo, have made."""
    if (own / "records").exists() or not (theirs / "records").is_dir():
        return
    for name in ("blobs", "records"):
        shutil.rmtree(own / name, ignore_errors=True)
        shutil.copytree(theirs / name, own / f"{name}.new", dirs_exist_ok=True)
        (own / f"{name}.new").rename(own / name)


def bake(version: str, *options: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """Bake a version of the lab image; test processes take turns."""
    with have_turn(load_settings()):
        return fields_of(qtrade("bake", "--version", version, "--json", *options, env=env).stdout)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings as `pytest_sessionstart` has made them."""
    return load_settings()


@pytest.fixture(scope="session")
def image_010(settings: Settings) -> str:
    """The lab image 0.1.0; returns its id."""
    assert settings
    return str(bake("0.1.0")["id"])


def make_rig(settings: Settings, name: str, firmware: Firmware) -> LabRig:
    lab.down(settings, name, wipe=True)
    for kept in ("known_hosts", "generations"):
        for path in (settings.state_dir / kept).glob(f"{name}*"):
            path.unlink()
    setup.up(settings, name, firmware=firmware, memory_mib=2048, owner_pid=os.getpid())
    return LabRig(settings, name)


def read_manifest(rig: LabRig) -> dict[str, Any]:
    """Return the host's manifest."""
    document: dict[str, Any] = yaml.safe_load(rig.host.paths.manifest.read_text())
    return document


@contextmanager
def changed_manifest(rig: LabRig, **fields: Any) -> Iterator[None]:
    """Change top-level fields of the host's manifest for a while."""
    manifest = rig.host.paths.manifest
    before = manifest.read_text()
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(before), **fields}, sort_keys=False))
    try:
        yield
    finally:
        manifest.write_text(before)


@pytest.fixture(scope="session")
def bios(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank BIOS host, flashed with 0.1.0 through its BMC."""
    rig = make_rig(settings, "e2e-1", Firmware.BIOS)
    before = rig.ledger_sha256()
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--yes")
    assert result["state"] == "COMMITTED"
    assert result["image"] == image_010
    assert rig.ledger_sha256() == before
    yield rig
    assert rig.ledger_sha256() == before, "the ledger disk was changed"
    lab.down(settings, rig.name, wipe=True)


@pytest.fixture(scope="session")
def uefi(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank UEFI host that was given no secrets, flashed with 0.1.0 through its BMC."""
    rig = make_rig(settings, "e2e-2", Firmware.UEFI)
    manifest = rig.host.paths.manifest
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), "secrets": {}}, sort_keys=False))
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--yes")
    assert (result["state"], result["image"]) == ("COMMITTED", image_010)
    yield rig
    lab.down(settings, rig.name, wipe=True)
