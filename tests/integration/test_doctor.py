"""`qtrade doctor` on a machine where something is really missing: a program, room in the store, a private key's privacy."""

import json
import subprocess
import sys

import pytest

from qtrade.process import as_root
from qtrade.trust.keyring import init_keys
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    write_project(made)
    (made.project / "manifests/hosts/rpc-1.yaml").unlink()
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    return made


def examine(first: str = "true") -> tuple[int, dict[str, dict[str, str]]]:
    """Return exit code and what is missing, by name, on a machine that the shell text has changed; only for this one process."""
    script = f'{first}; exec "$0" -m qtrade.cli doctor --json'
    argv = ["unshare", "--mount", "sh", "-euc", script, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    document = json.loads(done.stdout)
    assert document["ok"] == (done.returncode == 0), done.stderr
    return done.returncode, {one["name"]: one for one in document["checks"] if one["health"] == "missing"}


def test_a_program_that_is_not_there_is_named_with_its_package(settings) -> None:
    assert examine() == (0, {})
    code, missing = examine("mount --bind /dev/null /usr/bin/mmdebstrap")
    assert (code, list(missing)) == (1, ["package mmdebstrap"])
    assert missing["package mmdebstrap"]["found"] == "no mmdebstrap, for roots of Debian for bakes"
    assert missing["package mmdebstrap"]["cure"] == as_root("apt-get install mmdebstrap")


def test_a_store_without_room_is_found_before_a_bake_fails(settings) -> None:
    settings.store.mkdir(parents=True)
    fill = f"mount -t tmpfs -o size=64k tmpfs {settings.store}; dd if=/dev/zero of={settings.store}/x bs=4k count=16 status=none"
    code, missing = examine(fill)
    assert (code, list(missing)) == (1, ["store"])
    assert missing["store"]["found"] == f"{settings.store} cannot be written to: No space left on device"
    assert "qtrade images gc" in missing["store"]["cure"]


def test_a_disk_without_room_for_a_bake(settings) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    code, missing = examine(f"mount -t tmpfs -o size=512m tmpfs {settings.state_dir}")
    assert (code, list(missing)) == (1, ["disk space"])
    assert missing["disk space"]["found"] == f"0.5 GiB free in {settings.state_dir}"


def test_a_key_that_others_can_read(settings) -> None:
    init_keys(settings)
    key = settings.keys_dir / "promote.key"
    key.chmod(0o644)
    code, missing = examine()
    assert (code, missing["private files"]["cure"]) == (1, f"chmod 600 {key}")


def test_a_mount_that_a_killed_bake_left(settings) -> None:
    root = settings.work_dir / "layer-agave/root"
    root.mkdir(parents=True)
    script = f'mount -t tmpfs tmpfs {root}; exec "$0" -m qtrade.cli doctor'
    argv = ["unshare", "--mount", "sh", "-euc", script, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"warning  stale mounts: {root}\n         to mend it: {as_root(f'umount -R {root}')}" in done.stdout
