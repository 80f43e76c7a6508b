"""What the lab leaves off: bare_metal with a container runtime, bounded cores and firmware, baked, so that its specs look at them."""

import json
from pathlib import Path

import pytest

from bake.chamber import Chamber, Command, run_in_chamber
from bake.lock.check import lock_path
from qtrade.manifest import Recipe
from qtrade.settings import Settings, load_settings
from tests.fakes.lab_layers import BakedRecipe, bake_all, change_vars

pytestmark = pytest.mark.integration

ON = {"bare_metal_container_runtime": "docker", "bare_metal_core_dumps": "bounded"}
PACKAGES = ("docker.io", "systemd-coredump", "firmware-intel-misc")
ASK = """
systemctl is-enabled docker.service
getent group docker
sed -n 's/^kernel.core_pattern *= *//p' /etc/sysctl.d/60-qtrade-host.conf /usr/lib/sysctl.d/50-coredump.conf
dockerd --validate --config-file /etc/docker/daemon.json 2>&1
"""


def switch_on(settings: Settings) -> Recipe:
    """Return the lab's recipe down to bare_metal, with everything optional; its lock begins as the lab's, so that the base is the same."""
    lab = change_vars(settings, "lab", {"bare_metal": ON})
    layer = next(layer for layer in lab.layers if layer.role == "bare_metal")
    layer = layer.model_copy(update={"packages": (*layer.packages, *PACKAGES)})
    components = {name: lab.components[name] for name in layer.components}
    recipe = lab.model_copy(update={"name": "toggles", "layers": (layer,), "components": components})
    path, own = lock_path(settings, lab), lock_path(settings, recipe)
    if path.exists() and not own.exists():
        own.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "toggles"}))
    return recipe


@pytest.fixture(scope="module")
def baked() -> BakedRecipe:
    """A bake runs the specs of the mark `layer` on what it made, and fails with them."""
    settings = load_settings()
    return bake_all(settings, switch_on(settings))


def test_what_is_optional_is_on_in_the_layer(baked: BakedRecipe, tmp_path: Path) -> None:
    command = Command(("chroot", str(tmp_path / "work/root"), "sh", "-euc", ASK))
    chamber = Chamber(tmp_path / "work", baked.blobs("bare_metal"), (command,))
    enabled, group, pattern, verdict = run_in_chamber(
        chamber, env={"LC_ALL": "C.UTF-8"}, timeout_s=120
    ).stdout.splitlines()
    assert (enabled, group) == ("enabled", "docker:x:403:")
    assert pattern.startswith("|/usr/lib/systemd/systemd-coredump")
    assert verdict == "configuration OK"
