"""`qtrade keys request|admit` and `qtrade images approve|promote` as two operators type them."""

import time

import pytest
import yaml

from flash import integration
from qtrade.errors import HostError, NotFound
from qtrade.settings import Settings
from qtrade.trust.fleet_facts import Integration
from qtrade.trust.statements import BENCH, INTEGRATION, ROLLOUT
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings
from tests.fakes.releases import Room

pytestmark = pytest.mark.unit

PROMOTE = ("images", "promote", "0.1.0", "--recipe", "demo", "--to")
APPROVE = ("images", "approve", "0.1.0", "--recipe", "demo", "--to", "production", "--yes")


class Operators:
    """Ben, who has the root, and Anna; `run` types a command as one of them."""

    def __init__(self, cli: Cli, settings: Settings, monkeypatch, folder) -> None:
        self.cli, self.settings, self.monkeypatch, self.folder = cli, settings, monkeypatch, folder

    def run(self, who: str, *args: str) -> tuple[int, str, str]:
        self.monkeypatch.setenv("QTRADE_KEYS_DIR", str(self.folder / who))
        return self.cli(*args)

    def share(self) -> None:
        for name in ("trust.json", "root.pem"):
            (self.folder / "anna" / name).write_bytes((self.folder / "ben" / name).read_bytes())


@pytest.fixture
def operators(tmp_path, monkeypatch, capsys) -> Operators:
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    for name in ("development", "staging", "production"):
        text = yaml.safe_dump({"schema_version": 1, "name": name})
        (settings.project / f"manifests/environments/{name}.yaml").write_text(text)
    made = Operators(Cli(monkeypatch, capsys), settings, monkeypatch, tmp_path / "keys")
    assert made.run("ben", "keys", "init")[0] == 0
    pem = str(tmp_path / "anna.pem")
    assert made.run("anna", "keys", "request", "--to", pem)[0] == 0
    code, out, _ = made.run("ben", "keys", "admit", pem)
    assert (code, "production's hosts take what 2 promote keys signed" in out) == (0, True)
    made.share()
    return made


@pytest.fixture
def room(operators) -> Room:
    """The store, with a version that staging has seen."""
    keys = operators.folder / "ben"
    made = Room(Settings(operators.settings.project, operators.settings.state_dir, operators.settings.store, keys=keys))
    image, now = made.publish(), int(time.time())
    seen = {"environment": "staging", "version": "0.1.0"}
    made.say(image.id, ROLLOUT, {**seen, "hosts": ["a"], "soak_s": 0, "committed_at": now}, role="job")
    made.say(image.id, INTEGRATION, {**seen, "hosts": ["a"], "passed": True, "at": now}, role="job")
    load = {"kind": "load", "host": "a", "recipe": "demo", "hardware_class": "A", "at": now, "seconds": 60}
    made.say(image.id, BENCH, {**seen, **load}, role="job")
    return made


def test_two_operators_let_a_version_into_production(operators, room) -> None:
    code, _, err = operators.run("ben", *PROMOTE, "production", "--yes")
    assert code == 7
    assert "2 operators sign it, 1 did" in err
    code, out, _ = operators.run("anna", *APPROVE)
    assert (code, out) == (
        0, "approved: production -> demo 0.1.0 (number 1); another operator promotes it within 7 days\n",
    )  # fmt: skip
    code, _, err = operators.run("anna", *PROMOTE, "production", "--yes")
    assert code == 7, "she is one of two"
    code, out, err = operators.run("ben", *PROMOTE, "production", "--yes")
    assert code == 0, err
    assert out.startswith("leads: production -> demo 0.1.0 (number 1); tests passed: boot; approved by ")
    assert room.store.channel("demo", "production").version == "0.1.0"
    code, out, _ = operators.run("ben", "images", "verify", "0.1.0", "--recipe", "demo")
    assert (code, "production   takes it" in out) == (0, True)


def test_an_approval_is_asked_for_and_can_be_seen_first(operators, room) -> None:
    code, out, _ = operators.run("anna", *APPROVE[:-1], "--dry-run")
    assert (code, out.split(":")[0]) == (0, "would be approved")
    code, _, err = operators.run("anna", *APPROVE[:-1])
    assert (code, "nobody can be asked" in err) == (2, True)
    assert operators.run("ben", *PROMOTE, "production", "--yes")[0] == 7, "nothing was approved"


def test_what_staging_has_not_seen_is_not_approved_either(operators, room) -> None:
    room.publish("0.2.0", cmdline="debug")
    code, _, err = operators.run(
        "anna", "images", "approve", "0.2.0", "--recipe", "demo", "--to", "production", "--yes"
    )
    assert code == 7
    assert all(word in err for word in ("no-rollout", "not-integrated", "no-load-test", "qtrade bench load"))
    assert "one-key" not in err


@pytest.mark.parametrize("passed", [True, False])
def test_a_promotion_to_staging_runs_the_suite_where_somebody_runs_it(operators, room, monkeypatch, passed) -> None:
    failures = () if passed else ("rpc-2: specs: broken",)
    said = Integration(environment="staging", version="0.1.0", hosts=("rpc-2",), passed=passed, failures=failures, at=1)
    monkeypatch.setattr(integration, "integrate", lambda *_, **__: said)
    code, out, err = operators.run("ben", *PROMOTE, "staging", "--yes")
    assert out.startswith("leads: staging -> demo 0.1.0"), "it was promoted, however the suite ends"
    assert code == (0 if passed else HostError.exit_code)
    assert ("rpc-2: specs: broken" in err) != passed


def test_it_is_said_where_nobody_runs_it_yet(operators, room, monkeypatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise NotFound("no host of staging runs demo 0.1.0", resolution="flash it")

    monkeypatch.setattr(integration, "integrate", nobody)
    code, _, err = operators.run("ben", *PROMOTE, "staging", "--yes")
    assert (code, err) == (
        0, "the integration suite did not run: no host of staging runs demo 0.1.0\nnext: flash it\n",
    )  # fmt: skip
    monkeypatch.setattr(integration, "integrate", lambda *_, **__: pytest.fail("it was not to run"))
    assert operators.run("ben", *PROMOTE, "staging", "--yes", "--no-suite")[0] == 0
