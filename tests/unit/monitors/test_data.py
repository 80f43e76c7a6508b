"""The committed data, and what wrong data is told."""

import re
from pathlib import Path

import pytest
import yaml

from flash.monitors.data import Kind, load_wanted, mark, read_mark
from qtrade.errors import BadInput
from qtrade.manifest import Environment, load_manifest
from tests.fakes.monitors import NAMES, PROJECT, make_environment

pytestmark = pytest.mark.unit
DATA = PROJECT / "manifests/monitoring"
MONITOR = {
    "key": "one",
    "name": "One",
    "query": "max(last_5m):max:x{env:$env}",
    "thresholds": {"critical": 5},
    "message": "Do something.",
    "priority": 2,
}


def write(folder: Path, *monitors: dict[str, object]) -> Path:
    (folder / "monitors").mkdir(exist_ok=True)
    (folder / "monitors/some.yaml").write_text(yaml.safe_dump({"schema_version": 1, "monitors": list(monitors)}))
    return folder


def load(folder: Path, **changes: object):
    return load_wanted(folder, make_environment(**changes), NAMES)


@pytest.mark.parametrize("name", ["development", "staging", "production"])
def test_every_environment_has_a_set(name) -> None:
    environment = load_manifest(Environment, PROJECT / f"manifests/environments/{name}.yaml")
    keys = {one.key for one in load_wanted(DATA, environment, NAMES)}
    assert {"validator-slot-lag", "geyser-silent", "postgres-connections", "disk-fill", "boot-fell-back"} <= keys
    assert ("nvme-worn" in keys) == (name == "production")


def test_enhanced_holds_base_and_none_nothing() -> None:
    sets = {name: {one.key for one in load(DATA, monitor_set=name)} for name in ("none", "base", "enhanced")}
    assert sets["none"] == set()
    assert sets["base"] < sets["enhanced"]


def test_every_query_is_bound_to_the_environment_and_no_name_is_left_open() -> None:
    for one in load(DATA, monitor_set="enhanced"):
        queries = re.findall(r"\{[^{}]*env:[^{}]*\}", str(one.body))
        assert queries, one.key
        assert all("env:production" in query for query in queries), one.key
        assert "$env" not in str(one.body)
        assert "${" not in str(one.body)


def test_the_committed_metrics_are_those_that_the_host_sends() -> None:
    program = (PROJECT / "ansible/roles/datadog/files/usr/lib/qtrade/datadog/host_metrics.py").read_text()
    sent = set(re.findall(r'Metric\("([a-z._]+)"', program)) | {"validator.slot", "validator.lag"}
    used = set(re.findall(r"qtrade\.([a-z._]+)\{", str([one.body for one in load(DATA, monitor_set="enhanced")])))
    assert used
    assert used <= sent


def test_the_threshold_stands_in_the_query(tmp_path) -> None:
    [one] = load(write(tmp_path, {**MONITOR, "comparator": "<", "thresholds": {"critical": 0.25}}))
    assert one.body["query"] == "max(last_5m):max:x{env:production} < 0.25"
    assert one.body["options"]["thresholds"] == {"critical": 0.25}


def test_the_environment_says_whom_to_tell(tmp_path) -> None:
    [one] = load(write(tmp_path, MONITOR), monitoring={"notify": ["@pagerduty-solana", "@slack-ops"]})
    assert one.body["message"] == "Do something.\n\n@pagerduty-solana @slack-ops"


def test_no_data_is_an_alert_where_it_is_asked_for(tmp_path) -> None:
    [one] = load(write(tmp_path, {**MONITOR, "no_data_min": 10}))
    assert (one.body["options"]["notify_no_data"], one.body["options"]["no_data_timeframe"]) == (True, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": {"critical": 5, "warning": 7}}, "would come after critical"),
        ({"comparator": "<", "thresholds": {"critical": 5, "warning": 4}}, "would come after critical"),
        ({"priority": 9}, "priority"),
        ({"querry": "x"}, "querry"),
    ],
)
def test_a_wrong_monitor_is_refused(tmp_path, change, said) -> None:
    with pytest.raises(BadInput) as caught:
        load(write(tmp_path, {**MONITOR, **change}))
    assert said in caught.value.details
    assert "some.yaml" in caught.value.brief


def test_an_unknown_name_is_refused(tmp_path) -> None:
    with pytest.raises(BadInput, match="cannot be filled in") as caught:
        load(write(tmp_path, {**MONITOR, "query": "max(last_5m):max:${firedancer}_x{env:$env}"}))
    assert "env, geyser" in caught.value.details


def test_one_key_is_one_monitor(tmp_path) -> None:
    with pytest.raises(BadInput, match="monitor one stands there twice"):
        load(write(tmp_path, MONITOR, {**MONITOR, "name": "Another"}))


def test_marks_are_read_as_they_are_written(wanted) -> None:
    for one in wanted:
        found = read_mark(one.kind, one.body)
        assert found is not None
        assert (found.env, found.key) == ("production", one.key)


def test_another_text_is_another_digest(wanted) -> None:
    for one in (wanted[0], wanted[-1]):
        field = "message" if one.kind is Kind.MONITOR else "title"
        plain = {**one.body, "tags": [], "description": ""}
        marks = [
            read_mark(one.kind, mark(type(one)(one.kind, one.key, body), "production").body)
            for body in (plain, {**plain, field: "x"})
        ]
        assert marks[0].digest != marks[1].digest


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.MONITOR, {"tags": ["env:production", "qtrade_key:x"]}),
        (Kind.MONITOR, {"tags": ["managed_by:terraform", "env:production", "qtrade_key:x"]}),
        (Kind.MONITOR, {"tags": ["managed_by:qtrade"]}),
        (Kind.DASHBOARD, {"description": None}),
        (Kind.DASHBOARD, {"description": "see managed_by:qtrade env:production"}),
    ],
)
def test_what_is_not_ours_bears_no_mark(kind, body) -> None:
    assert read_mark(kind, body) is None
