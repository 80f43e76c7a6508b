"""A layer that fails: the reason is told, and `bake shell` shows what the role had done."""

from collections.abc import Iterator

import pytest
import yaml

from bake.layer import failed_folder
from qtrade.errors import ToolError
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    tiny = make_tiny_project(load_settings(), tmp_path_factory.mktemp("failed"))
    tiny.qtrade("bake", "--recipe", "tiny", "--only", "two", "--json")
    return tiny


@pytest.fixture(autouse=True)
def _as_it_was(tiny) -> Iterator[None]:
    files = (tiny.tasks("two"), tiny.settings.project / "manifests/images/tiny.yaml")
    kept = {path: path.read_text() for path in files}
    yield
    for path, text in kept.items():
        path.write_text(text)


def set_timeout(tiny: TinyProject, timeout_s: int) -> None:
    path = tiny.settings.project / "manifests/images/tiny.yaml"
    fields = yaml.safe_load(path.read_text())
    fields["layers"][1]["timeout_s"] = timeout_s
    path.write_text(yaml.safe_dump(fields))


def test_a_role_that_takes_too_long_is_ended_and_the_limit_and_its_field_are_named(tiny) -> None:
    set_timeout(tiny, TIMEOUT_S)
    tiny.add_task("two", "ansible.builtin.shell", cmd="touch /opt/begun; sleep 631")
    with pytest.raises(ToolError) as caught:
        tiny.bake("slow")
    assert (failed_folder(tiny.settings, "two") / "upper/opt/begun").exists()
    log = tiny.settings.state_dir / "logs/layer-two.log"
    assert caught.value.brief == f"layer two took longer than {TIMEOUT_S} s and was ended"
    assert "raise timeout_s of the layer in the recipe" in caught.value.resolution
    assert str(log) in caught.value.resolution


def test_another_limit_makes_no_other_layer(tiny) -> None:
    set_timeout(tiny, TIMEOUT_S + 1)
    assert tiny.qtrade("bake", "--recipe", "tiny", "--only", "two", "--json")["built"] == []


def test_a_shell_in_a_failed_layer_has_its_deletions_and_its_owners(tiny) -> None:
    file = "ansible.builtin.file"
    tiny.add_task("two", file, path="/etc/issue", state="absent")
    tiny.add_task("two", file, path="/usr/share/pam-configs", state="absent")
    tiny.add_task("two", file, path="/usr/share/pam-configs", state="directory", mode="0755")
    tiny.add_task("two", "ansible.builtin.copy", content="x", dest="/opt/owned", owner="33", group="34", mode="0600")
    tiny.add_task("two", "ansible.builtin.fail", msg="on purpose")
    with pytest.raises(ToolError, match="layer two failed"):
        tiny.bake("half")
    commands = "stat -c owner=%u:%g /opt/owned; ls /etc/issue; ls -A /usr/share/pam-configs | wc -l | sed s/^/files=/\n"
    shown = tiny.shell("two", commands, expect="as its role left it when it failed", code=0)
    assert "owner=33:34" in shown
    assert "cannot access '/etc/issue'" in shown
    assert "files=0" in shown
