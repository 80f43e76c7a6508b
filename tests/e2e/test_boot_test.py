"""The boot test: the lab image as a whole disk boots by itself on UEFI, and the specs of all roles hold there."""

import json

import pytest

from tests.rigs import qtrade

pytestmark = pytest.mark.e2e


def test_boot_test_runs_the_specs_of_all_roles(image_010: str) -> None:
    (result,) = json.loads(qtrade("images", "test", "0.1.0", "--firmware", "uefi", "--json").stdout)["results"]
    predicate = result["predicate"]
    assert isinstance(predicate, dict)
    assert result["image_id"] == image_010
    assert (predicate["kind"], predicate["passed"], predicate["firmware"]) == ("boot", True, "uefi")
    assert predicate["ran"] > 60
    assert result["envelope"]["payloadType"] == "application/vnd.in-toto+json"
