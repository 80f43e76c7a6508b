"""Specs that hold only where two layers meet that do not need each other."""

import pytest

from qtrade.errors import NotFound, Refused
from qtrade.settings import load_settings
from tests.fakes.tiny import make_tiny_project

pytestmark = pytest.mark.integration

SPEC = """
import pytest


@pytest.mark.image
def test_both_layers_are_there(host):
    assert host.check_output("jq -nr '1 + 1'") == "2"
    assert host.file("/usr/share/tiny/two.txt").exists
"""


def test_layers_that_do_not_fit_each_other_stop_the_image(tmp_path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    spec = tiny.settings.project / "ansible/roles/one/specs/test_together.py"
    spec.write_text(SPEC.replace('== "2"', '== "3"'))
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(Refused, match="1 of 1 specs fail on the layers of tiny together") as caught:
            tiny.bake("1.0")
        assert caught.value.details.startswith("  one: test_both_layers_are_there[chroot")
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "1.0")
    spec.write_text(SPEC)
    tiny.bake("1.0")
    assert tiny.reporter.steps.count("check image") == 3
    tiny.bake("1.1")
    assert tiny.reporter.steps.count("check image") == 3
