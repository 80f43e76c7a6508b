"""What providers and BMCs tell: rescue mode, boot override, lock; through the real drivers where there is a fake of the API."""

from dataclasses import dataclass

import pytest

from flash.drift.provider import ask_driver, compare_provider
from flash.drivers import BootOverride, BootSource, OverrideEnabled
from qtrade.manifest import DriftPolicy
from tests.fakes.examples import make_host, make_settings
from tests.unit.drivers.providers import KEY, connected

pytestmark = pytest.mark.unit


@dataclass
class Board:
    """A BMC with a boot override."""

    override: BootOverride

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def boot_once(self, source: BootSource) -> BootOverride:
        raise AssertionError(source)

    def boot_override(self) -> BootOverride:
        return self.override

    def clear_boot_override(self) -> None:
        raise AssertionError("a look changes nothing")


def found(driver, **policy: object) -> list[str]:
    return [one.subject for one in ask_driver(driver, DriftPolicy(**policy))]


@pytest.mark.parametrize("kind", ["latitude", "cherry"])
def test_rescue_mode_that_was_left_on_is_drift(kind) -> None:
    with connected(kind) as case:
        assert found(case.driver) == []
        case.driver.enter_rescue(KEY)
        before = list(case.machine.done)
        assert found(case.driver) == ["rescue"]
        assert case.machine.done == before
        case.driver.leave_rescue()
        assert found(case.driver) == []


@pytest.mark.parametrize(
    ("is_wanted", "is_on", "drift"), [(True, False, ["lock"]), (True, True, []), (False, False, [])]
)
def test_a_lock_that_is_off_is_drift_where_it_is_wanted(is_wanted, is_on, drift) -> None:
    with connected("latitude") as case:
        if is_on:
            case.driver.lock()
        assert found(case.driver, provider_lock=is_wanted) == drift


@pytest.mark.parametrize("kind", ["teraswitch", "phoenixnap"])
def test_a_provider_that_cannot_tell_is_no_drift(kind) -> None:
    with connected(kind) as case:
        assert found(case.driver, provider_lock=True) == []


def test_a_boot_override_that_was_left_on_is_drift() -> None:
    assert found(Board(BootOverride())) == []
    assert found(Board(BootOverride(BootSource.PXE, OverrideEnabled.CONTINUOUS))) == ["boot_override"]


def test_an_api_that_does_not_answer_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "wrong-token-of-the-tests")
    driver = {"kind": "latitude", "server_id": "sv_1", "token": "env:TOKEN", "url": "http://127.0.0.1:9"}
    host = make_host(driver=driver, doors=["in_place"], netboot=None)
    (finding,) = compare_provider(make_settings(tmp_path), host, DriftPolicy())
    assert (finding.kind, finding.subject) == ("unobserved", "provider")
    assert "wrong-token-of-the-tests" not in finding.found
