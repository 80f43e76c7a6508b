"""Manifests of earlier versions, rewritten and read. The earlier version of hosts is invented here: none but 1 was ever released."""

import shutil
from pathlib import Path
from typing import Literal

import pytest
import yaml

from qtrade.errors import BadInput, Refused
from qtrade.manifest import Host, load_text
from qtrade.manifest.formats import STEPS
from qtrade.upkeep.formats import FORMATS, Format
from qtrade.upkeep.migrate import migrate, render_migrations, rewrite
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).parents[3]


class NextHost(Host):
    """Hosts as a qtrade to come might have them: `address` has become `reached_at`."""

    schema_version: Literal[3]
    address: str = ""
    reached_at: str


def rename_address(document) -> None:
    at = list(document).index("address")
    value = document.pop("address")
    if hasattr(document, "insert"):  # ruamel's mapping, which has places; a reader's has none
        document.insert(at, "reached_at", value)
    else:
        document["reached_at"] = value


def drop_console(document) -> None:
    document.pop("console", None)


OLD = """\
# The first of two; its twin is rpc-2.
schema_version: 1
name: rpc-1   # as in the rack
environment: development
role: rpc
recipe: "demo"

# Of the management network.
address: 192.0.2.10
driver: {kind: ssh}
doors: [in_place]
os_disk:
  serial: 'S1'   # upper bay
  size_bytes: 100_000
protected_disks:
  - {serial: S2, fs_uuid: 5e7c}   # ledger
"""


@pytest.fixture
def steps(monkeypatch) -> Format:
    monkeypatch.setitem(STEPS, "NextHost", {1: rename_address, 2: drop_console})
    return Format("host", "manifests/hosts/*.yaml", NextHost)


def test_comments_order_and_quotes_stay(steps) -> None:
    assert rewrite(NextHost, OLD, source="rpc-1.yaml") == OLD.replace("schema_version: 1", "schema_version: 3").replace(
        "address: 192", "reached_at: 192"
    )


def test_each_earlier_version_takes_the_steps_that_it_lacks(steps) -> None:
    second = OLD.replace("schema_version: 1", "schema_version: 2").replace("address: 192", "reached_at: 192")
    third = rewrite(NextHost, second + "console: /dev/ttyS0\n", source="rpc-1.yaml")
    assert third == second.replace("schema_version: 2", "schema_version: 3")
    assert rewrite(NextHost, third, source="rpc-1.yaml") is None


def test_readers_take_the_same_steps_in_memory(steps) -> None:
    host = load_text(NextHost, OLD, source="rpc-1.yaml")
    assert (host.schema_version, host.reached_at, host.address) == (3, "192.0.2.10", "")


@pytest.mark.parametrize("version", ["0", "4", "'1'", "true", "null"])
def test_a_version_that_nobody_released_is_refused(steps, version) -> None:
    text = OLD.replace("schema_version: 1", f"schema_version: {version}")
    with pytest.raises(BadInput, match="which no release of qtrade has written") as caught:
        rewrite(NextHost, text, source="rpc-1.yaml")
    assert caught.value.details == "this qtrade reads up to 3"
    with pytest.raises(BadInput) as refused:
        load_text(NextHost, text, source="rpc-1.yaml")
    assert "rpc-1.yaml:2: schema_version: this qtrade reads format 3" in refused.value.details


def test_a_comment_that_would_be_lost_stops_all(steps, tmp_path) -> None:
    settings = make_settings(tmp_path)
    hosts = settings.project / "manifests/hosts"
    (hosts / "a.yaml").write_text(OLD)
    (hosts / "b.yaml").write_text(f"{OLD}console: /dev/ttyS0\n# ask Ada before you touch it\n")
    with pytest.raises(Refused, match="1 comments would be lost") as caught:
        migrate(settings, dry_run=False, formats=(steps,))
    assert caught.value.details == "# ask Ada before you touch it"
    assert (hosts / "a.yaml").read_text() == OLD


def test_all_files_are_written_or_only_shown(steps, tmp_path) -> None:
    settings = make_settings(tmp_path)
    path = settings.project / "manifests/hosts/rpc-1.yaml"
    path.write_text(OLD)
    shown = migrate(settings, dry_run=True, formats=(steps,))
    assert (shown.written, shown.checked, path.read_text()) == (False, 1, OLD)
    (one,) = shown.migrations
    assert (one.path, one.kind, one.before, one.after) == ("manifests/hosts/rpc-1.yaml", "host", 1, 3)
    changed = [line for line in one.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ["-schema_version: 1", "+schema_version: 3", "-address: 192.0.2.10", "+reached_at: 192.0.2.10"]
    assert render_migrations(shown).splitlines()[-1] == "1 of 1 manifests to write"
    done = migrate(settings, dry_run=False, formats=(steps,))
    assert (done.written, done.migrations) == (True, shown.migrations)
    assert "reached_at: 192.0.2.10" in path.read_text()
    assert migrate(settings, dry_run=False, formats=(steps,)).migrations == ()


def test_no_comment_of_the_projects_own_manifests_would_be_lost(tmp_path, monkeypatch) -> None:
    """As a step that changes nothing but the version would show, for each kind of file that there is."""
    seen = 0
    for one in FORMATS:
        model = type(f"Next{one.model.__name__}", (one.model,), {"__annotations__": {"schema_version": Literal[2]}})
        monkeypatch.setitem(STEPS, model.__name__, {1: lambda _: None})
        for path in sorted(PROJECT.glob(one.glob)):
            text = path.read_text()
            if path.name == "ids.yaml":
                with pytest.raises(Refused, match="1 comments would be lost"):
                    rewrite(model, text, source=str(path))
                continue
            changed = rewrite(model, text, source=str(path))
            assert changed == text.replace("schema_version: 1", "schema_version: 2", 1)
            seen += 1
    assert seen > 10


def test_the_command_says_that_all_is_new(tmp_path, monkeypatch, capsys) -> None:
    settings = make_settings(tmp_path)
    write_project(settings)
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.project))
    run = Cli(monkeypatch, capsys)
    assert run("migrate", "--check") == (0, "2 manifests are of the newest format\n", "")
    assert run.json("migrate") == {"checked": 2, "migrations": [], "written": False}
    path = settings.project / "manifests/hosts/rpc-1.yaml"
    path.write_text(yaml.safe_dump(host_fields(schema_version=0)))
    code, _, err = run("migrate", "--check")
    assert code == 3
    assert "schema_version is 0, which no release of qtrade has written" in err
    shutil.rmtree(settings.project / "manifests/hosts")
    assert run("migrate", "--check")[0] == 0
