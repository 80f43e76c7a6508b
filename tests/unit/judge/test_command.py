"""`qtrade judge`: the table, the document, and the exit code of each verdict."""

import json

import pytest

from flash.judge.recording import Recorder, Run
from qtrade.cli.judge import CODES
from qtrade.manifest.metrics import Metric
from tests.fakes.cli import Cli
from tests.fakes.documents import check_document
from tests.fakes.examples import make_settings
from tests.fakes.soaks import DEPLOYED, Soak, on

pytestmark = pytest.mark.unit
ROLES = ("agave", "geyser", "postgres", "qtrade_client", "datadog")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path) -> Cli:
    settings = make_settings(tmp_path)
    (settings.project / "manifests/environments").mkdir(parents=True, exist_ok=True)
    (settings.project / "manifests/environments/production.yaml").write_text("schema_version: 1\nname: production\n")
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    return Cli(monkeypatch, capsys)


@pytest.fixture
def record(tmp_path):
    def write(soak: Soak, roles: tuple[str, ...] = ROLES) -> str:
        path = tmp_path / f"soak-{len(list(tmp_path.iterdir()))}.jsonl"
        with Recorder(path) as record:
            record.begin(Run("1.2.0", dict.fromkeys(soak.canaries, DEPLOYED), soak.controls, roles))
            record.add(soak.samples())
        return str(path)

    return write


def sick(t: float, value: float) -> float:
    return 1.0 if t > 600 else value


def test_a_good_soak_passes(cli, record) -> None:
    code, out, err = cli("judge", record(Soak()), "--env", "production")
    assert (code, err) == (0, "")
    assert out.startswith("pass: 1.2.0 on canary-1 against control-1, control-2, control-3, until 03:0")
    assert "soft rpc_p99_ms" in out


def test_a_bad_one_says_gate_host_sample_and_why(cli, record) -> None:
    soak = Soak().changed(on("canary-1", Metric.FAILED_UNITS, sick))
    code, out, _ = cli("judge", record(soak), "--env", "production", "--json")
    check_document(out)
    found = json.loads(out)
    assert (code, found["verdict"]) == (10, "fail")
    first = found["findings"][0]
    assert (first["gate"], first["kind"], first["host"], first["sample"]["value"]) == (
        "failed_units",
        "hard",
        "canary-1",
        1,
    )
    assert "at most 0 is good" in first["why"]


def test_the_past_is_judged_as_it_was(cli, record) -> None:
    path = record(Soak().changed(on("canary-1", Metric.FAILED_UNITS, sick)))
    assert cli("judge", path, "--env", "production", "--until", str(DEPLOYED + 590))[0] in (0, 11)
    assert cli("judge", path, "--env", "production", "--until", str(DEPLOYED + 30))[0] == 11


def test_missing_data_is_neither_good_nor_bad(cli, record) -> None:
    code, out, _ = cli("judge", record(Soak(metrics=(Metric.VERSION,))), "--env", "production")
    assert (code, out.startswith("inconclusive: ")) == (11, True)


def test_roles_that_the_image_does_not_have_are_not_asked_for(cli, record) -> None:
    few = tuple(
        metric
        for metric in Soak().metrics
        if metric not in (Metric.GEYSER_SLOT, Metric.POSTGRES_WRITES, Metric.METRICS_SENT)
    )
    assert cli("judge", record(Soak(metrics=few)), "--env", "production")[0] == 11
    code, out, _ = cli("judge", record(Soak(metrics=few), ("agave",)), "--env", "production")
    assert (code, "geyser_slot" in out) == (0, False)


@pytest.mark.parametrize("options", [["--env", "nowhere"], []])
def test_what_cannot_be_judged_is_no_verdict(cli, record, options) -> None:
    assert cli("judge", record(Soak()), *options)[0] not in CODES.values()


def test_a_record_that_is_not_there_is_named(cli, tmp_path) -> None:
    code, _, err = cli("judge", str(tmp_path / "none.jsonl"), "--env", "production")
    assert (code, "none.jsonl does not exist" in err) == (4, True)
