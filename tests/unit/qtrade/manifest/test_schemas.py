"""The committed JSON Schemas are those of the models."""

import json
from pathlib import Path

import pytest

from qtrade.manifest.schemas import write_schemas

pytestmark = pytest.mark.unit

COMMITTED = Path(__file__).resolve().parents[4] / "manifests/schemas"


def test_the_committed_schemas_are_fresh(tmp_path) -> None:
    written = {path.name: path.read_text() for path in write_schemas(tmp_path)}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*.json")}
    assert committed == written, "run `make schemas`"


def test_every_model_that_is_written_or_published_has_one(tmp_path) -> None:
    titles = {json.loads(path.read_text())["title"] for path in write_schemas(tmp_path)}
    written = {
        "Recipe",
        "Host",
        "Environment",
        "Identity",
        "Waivers",
        "Monitors",
        "Dashboard",
        "MetricNames",
        "DriftIgnores",
    }
    assert titles == {*written, "Image"}
