"""What a boot test tells its guest, and what it says of the image."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bake import boot_test
from qtrade.errors import BadInput, ConflictError, HostError, QtradeError, ToolError
from qtrade.machine.console import Console
from qtrade.manifest import RoleInputs
from qtrade.settings import load_settings
from qtrade.signing import SigningKey
from qtrade.specs import SpecResult
from tests.fakes.examples import make_image, make_settings

pytestmark = pytest.mark.unit

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
LOGIN = {
    "bare_metal_ssh_keys": {"type": "dict"},
    "bare_metal_mac": {"type": "str"},
    "other": {"type": "int", "default": 1},
}


@pytest.fixture
def settings(tmp_path):
    made = make_settings(tmp_path)
    shutil.copyfile(load_settings().project / "manifests/ids.yaml", made.project / "manifests/ids.yaml")
    return made


def test_guest_gets_only_values_that_its_image_knows(settings, tmp_path: Path) -> None:
    image = make_image(inputs={"app": RoleInputs.model_validate({"values": LOGIN})})
    config = boot_test._make_config(settings, image, tmp_path)
    assert set(config.values) == {"bare_metal_ssh_keys", "bare_metal_mac"}
    [key] = config.values["bare_metal_ssh_keys"]["operator"]
    assert key == (tmp_path / "user_key.pub").read_text().strip()
    assert (config.users["root"], config.users["sol"]) == (0, 420)
    assert [(entry.path, entry.mode) for entry in config.files] == [
        ("host/ssh_host_ed25519_key", 0o600),
        ("host/ssh_host_ed25519_key.pub", 0o644),
    ]


def test_image_that_lets_nobody_in_is_refused(settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nobody can log in"):
        boot_test._make_config(settings, make_image(), tmp_path)


def test_host_key_of_the_guest_is_pinned(settings, tmp_path: Path) -> None:
    image = make_image(inputs={"app": RoleInputs.model_validate({"values": LOGIN})})
    boot_test._make_config(settings, image, tmp_path)
    target = boot_test._make_target(tmp_path, 2222)
    kind, public_key = (tmp_path / "host_key.pub").read_text().split()[:2]
    assert target.known_hosts.read_text() == f"boot-test {kind} {public_key}\n"
    config = target.config(tmp_path)
    assert "  StrictHostKeyChecking yes\n" in config
    assert "  Port 2222\n" in config


@pytest.fixture
def machine(tmp_path: Path) -> SimpleNamespace:
    (tmp_path / "console.log").write_text("Kernel panic")
    return SimpleNamespace(console=Console(tmp_path / "console.log"))


def test_what_a_boot_showed_is_told_apart_from_a_test_that_could_not_run(machine) -> None:
    assert boot_test._look_at(machine, lambda: SpecResult(7, ())) == boot_test._Found(7)
    failed = boot_test._look_at(machine, lambda: SpecResult(7, (("app", "test_it", "no"),)))
    assert (failed.ran, failed.failures) == (7, ("app: test_it: no",))
    assert "1 of 7 specs fail" in str(failed.problem)

    def fail(error: QtradeError) -> SpecResult:
        raise error

    dead = boot_test._look_at(machine, lambda: fail(HostError("it hangs")))
    assert (dead.ran, dead.failures) == (0, ("it hangs",))
    assert "Kernel panic" in dead.problem.details
    with pytest.raises(HostError, match="the boot test failed: pytest is missing"):
        boot_test._look_at(machine, lambda: fail(ToolError("pytest is missing")))


def test_one_boot_test_at_a_time_and_leftovers_are_removed(settings) -> None:
    stale = settings.state_dir / "boot-test/disk.raw"
    stale.parent.mkdir(parents=True)
    stale.write_text("of a killed one")
    with boot_test._work_folder(settings) as folder:
        assert list(folder.iterdir()) == []
        with pytest.raises(ConflictError), boot_test._work_folder(settings):
            pytest.fail("two boot tests share a folder")
        assert folder.is_dir()
    assert not folder.exists()
