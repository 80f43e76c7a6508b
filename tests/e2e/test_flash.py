"""The whole chain on a blank BIOS host, asserted from inside the flashed guest; then in place and rollback."""

import json
from pathlib import Path

import pytest
import yaml

from qtrade.settings import Settings
from tests.e2e.conftest import SECRET, LabRig, bake, qtrade, qtrade_json
from tests.e2e.images import changed_project

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bios")]


def test_flashed_host_runs_the_image_from_layers(bios: LabRig, image_010: str) -> None:
    status = bios.link.status()
    assert status["image"] == image_010
    assert status["verified"] == "verity"
    assert status["state"] == "persistent"
    assert status["upper"] == [], "something wrote to the root during a clean boot"
    assert status["failed_boots"] == 0
    root = bios.sh("findmnt -n -o FSTYPE,OPTIONS /")
    assert root.startswith("overlay")
    lowers = root.split("lowerdir=")[1].split(",")[0].split(":")
    assert len(lowers) == 8
    layers = bios.sh("findmnt -n -t erofs -o OPTIONS").splitlines()
    assert len(layers) == 8
    assert all("ro" in options.split(",") for options in layers)
    assert bios.sh("systemctl is-system-running") == "running"


def test_specs_of_all_seven_roles_ran_on_the_host(bios: LabRig) -> None:
    report = (bios.settings.state_dir / "specs" / bios.name / "report.xml").read_text()
    for role in ("bare_metal", "ufw_solana", "datadog", "geyser", "postgres", "agave", "qtrade_client"):
        assert f"roles.{role}.specs" in report


def test_push_changes_one_file_and_one_secret(bios: LabRig) -> None:
    manifest = bios.host.paths.manifest
    document = yaml.safe_load(manifest.read_text())
    before = bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service")
    document["config"]["datadog_tags"] = ["team:e2e"]
    document["secrets"]["datadog_api_key"] = "env:E2E_DATADOG_KEY"
    manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    done = qtrade("push", "--host", bios.name, "--json")
    result = json.loads(done.stdout)
    assert set(result["units"]) == {"datadog-agent.service", "otelcol-contrib.service"}
    assert SECRET not in done.stdout + done.stderr
    assert bios.sh("systemctl is-active datadog-agent.service otelcol-contrib.service").split() == ["active", "active"]
    assert bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service") == before
    status = bios.link.status()
    assert status["generation"] == result["generation"]
    assert status["upper"] == []


def test_secret_is_readable_by_its_unit_only(bios: LabRig) -> None:
    # The stand-in agent says with its health that it has a key; nobody else can read it, in clear or at rest.
    assert bios.sh("systemctl is-active datadog-agent.service") == "active"
    for path in (
        "/run/credentials/datadog-agent.service/datadog_api_key",
        "/run/qtrade/state/credstore/datadog_api_key",
    ):
        assert bios.sh(f"cat {path} 2>&1; true").endswith("Permission denied")
    assert SECRET not in bios.sh("journalctl --no-pager -q")
    assert SECRET not in bios.sh("systemctl show datadog-agent.service otelcol-contrib.service")
    assert SECRET not in bios.sh("ps axeww")


def rows(rig: LabRig) -> list[str]:
    """Return the rows that the first boot wrote into PostgreSQL, with their times."""
    sql = "select name, applied_at from schema_migrations order by 1"
    return rig.sh(f"psql -U qtrade_readonly -d qtrade -Atc '{sql}'").splitlines()


def test_in_place_flash_sends_the_changed_layer_only(
    bios: LabRig, settings: Settings, image_010: str, tmp_path: Path
) -> None:
    def change(project: Path) -> None:
        template = next((project / "ansible/roles/qtrade_client").rglob("*.service*"))
        template.write_text(template.read_text().replace("[Unit]", "[Unit]\n# another byte or two", 1))

    project = changed_project(settings, tmp_path, change)
    baked = bake("0.1.1", env={"QTRADE_PROJECT": str(project)})
    assert baked["built"] == ["qtrade_client"]
    old, new = (json.loads(qtrade("images", "show", version).stdout) for version in ("0.1.0", "0.1.1"))
    changed = {layer["digest"]: layer["size"] for layer in new["layers"]}
    for layer in old["layers"]:
        changed.pop(layer["digest"], None)
    assert len(changed) == 1
    before = rows(bios)
    assert before, "the first boot wrote no rows"
    result = qtrade_json("flash", "--host", bios.name, "--version", "0.1.1", "--yes")
    assert rows(bios) == before
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["door"] == "in_place"
    assert set(evidence["blobs_fetched"]) == set(changed)
    assert evidence["bytes_fetched"] <= sum(changed.values()) + 65536
    status = bios.link.status()
    assert (status["image"], status["previous"], status["once"]) == (new["id"], image_010, "")


def test_rollback_downloads_nothing(bios: LabRig, image_010: str) -> None:
    result = qtrade_json("rollback", "--host", bios.name, "--yes")
    assert (result["version"], result["bytes_fetched"]) == ("0.1.0", 0)
    status = bios.link.status()
    assert (status["image"], status["default"]) == (image_010, image_010)
    assert len(rows(bios)) >= 2
