"""The HTTP client of the providers' drivers against answers that go wrong: each one as a real server sends it."""

import json
from typing import Any

import pytest

from flash.drivers import PowerState
from flash.drivers.connect import Surroundings, connect_provider
from flash.drivers.waiting import Pace, Waiting
from qtrade.errors import BadInput, HostError, QtradeError, Refused
from qtrade.manifest.driver import LatitudeDriver
from tests.fakes.providers.provider import Fault, Reply
from tests.unit.drivers.providers import KEY, connected

pytestmark = pytest.mark.unit

PROXY_PAGE = "<html><head><style>b{}</style></head><body><h1>Access denied</h1><p>Ask your admin</p></body></html>"
# Recorded shapes: JSON:API (latitudesh-python-sdk, ErrorObject), TeraSwitch (ApiResponse), phoenixNAP (Error), Cherry.
SHAPES: dict[str, Any] = {
    "jsonapi": {"errors": [{"code": "X", "status": "422", "title": "Bad", "detail": "Hostname is taken"}]},
    "teraswitch": {"success": False, "message": "Hostname is taken"},
    "phoenixnap": {"message": "Hostname is taken", "validationErrors": ["hostname: too long"]},
    "cherry": {"code": 422, "message": "Hostname is taken"},
}


def get_fault(**fields: Any) -> Fault:
    return Fault(method="GET", **fields)


@pytest.mark.parametrize(
    ("status", "kind", "said", "cure"),
    [
        (401, BadInput, "does not accept the credential", "driver.token (env:LATITUDE)"),
        (403, BadInput, "does not accept the credential", "driver.token (env:LATITUDE)"),
        (404, BadInput, "it knows no such server", "driver.server_id sv_"),
        (409, Refused, "locked or busy", "who locked it"),
        (423, Refused, "locked or busy", "who locked it"),
        (422, HostError, "it refused the request (422)", "own words"),
        (400, HostError, "it refused the request (400)", "own words"),
        (302, HostError, "it sends us elsewhere", "driver.url"),
        (501, HostError, "its API fails", "status page"),
    ],
)
def test_answers_that_say_no(status: int, kind: type[QtradeError], said: str, cure: str) -> None:
    with connected("latitude") as case:
        fault = case.provider.inject(get_fault(reply=Reply(status, SHAPES["jsonapi"])))
        with pytest.raises(kind) as caught:
            case.driver.power_state()
        assert fault.fired
        assert said in caught.value.brief
        assert cure in caught.value.resolution
        assert "Hostname is taken" in caught.value.details
        assert len(case.provider.calls) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_apis_own_words_are_shown(shape: str) -> None:
    with connected("latitude") as case:
        case.provider.inject(Fault(reply=Reply(422, SHAPES[shape])))
        with pytest.raises(HostError) as caught:
            case.driver.boot_ipxe("http://192.0.2.1/x")
        assert "Hostname is taken" in caught.value.details
        assert ("too long" in caught.value.details) is (shape == "phoenixnap")
        assert case.machine.done == []


@pytest.mark.parametrize(
    "fault",
    [
        {"reply": Reply(500, {"message": "oops"})},
        {"reply": Reply(503, PROXY_PAGE)},
        {"reply": Reply(200, PROXY_PAGE)},
        {"reply": Reply(429, {}, {"Retry-After": "0"})},
        {"cut_at": 40},
        {"drops": True},
    ],
    ids=["500", "503 page", "proxy page", "429", "truncated", "lost"],
)
def test_reading_is_patient(fault: dict[str, Any]) -> None:
    with connected("latitude") as case:
        faults = [case.provider.inject(get_fault(**fault)) for _ in range(3)]
        assert case.driver.power_state() is PowerState.ON
        assert all(each.fired for each in faults)
        assert len(case.provider.calls) == 4


def test_patience_ends_and_says_what_came() -> None:
    with connected("latitude") as case:
        faults = [case.provider.inject(get_fault(reply=Reply(200, PROXY_PAGE))) for _ in range(5)]
        with pytest.raises(HostError, match=r"no usable answer from http://127\S* in 5 tries") as caught:
            case.driver.power_state()
        assert all(each.fired for each in faults)
        assert caught.value.details == "the answer is no JSON: Access denied Ask your admin"


def test_an_answer_of_another_shape_names_the_field() -> None:
    with connected("latitude") as case:
        case.provider.inject(get_fault(reply=Reply(200, {"data": {"attributes": {"status": 7}}})))
        with pytest.raises(HostError, match="another shape than we know") as caught:
            case.driver.power_state()
        assert "data.attributes.status" in caught.value.details


@pytest.mark.parametrize(
    "fault",
    [{"drops": True}, {"reply": Reply(502, PROXY_PAGE)}, {"reply": Reply(200, PROXY_PAGE)}, {"cut_at": 3}],
    ids=["lost", "502", "proxy page", "truncated"],
)
@pytest.mark.parametrize("kind", ["latitude", "teraswitch", "cherry", "phoenixnap"])
def test_a_change_that_took_effect_is_not_sent_again(kind: str, fault: dict[str, Any]) -> None:
    # The old status shows for a while, which must not look like "it did not take effect".
    with connected(kind, stale_s=0.1) as case:
        lost = case.provider.inject(Fault(path="server" if kind != "teraswitch" else "Metal", does=True, **fault))
        case.driver.boot_ipxe("http://192.0.2.1/x")
        case.provider.settle()
        assert lost.fired
        assert case.machine.done.count("boot http://192.0.2.1/x") == 1
        posts = [path for path, _ in case.provider.requests() if "token" not in path]
        assert len(posts) == 1


@pytest.mark.parametrize("kind", ["latitude", "teraswitch", "cherry", "phoenixnap"])
def test_a_change_that_did_not_take_effect_is_sent_again(kind: str) -> None:
    with connected(kind) as case:
        path = "server" if kind != "teraswitch" else "Metal"
        lost = [case.provider.inject(Fault(path=path, drops=True)) for _ in range(2)]
        case.driver.boot_ipxe("http://192.0.2.1/x")
        case.provider.settle()
        assert all(each.fired for each in lost)
        assert case.machine.done.count("boot http://192.0.2.1/x") == 1


def test_busy_after_a_lost_answer_is_the_echo_of_our_own_try() -> None:
    # The effect shows only after the second try was refused because of the first.
    with connected("latitude", stale_s=0.45) as case:
        lost = case.provider.inject(Fault(drops=True, does=True))
        case.driver.boot_ipxe("http://192.0.2.1/x")
        case.provider.settle()
        assert lost.fired
        assert len(case.provider.requests()) == 2
        assert case.provider.exchanges[-1][1].status == 200
        assert case.machine.done == ["wipe", "boot http://192.0.2.1/x"]


def test_too_many_requests_is_never_done_so_it_is_sent_again_unseen() -> None:
    with connected("latitude") as case:
        limited = case.provider.inject(Fault(reply=Reply(429, {"errors": []}, {"Retry-After": "0"})))
        case.driver.power_cycle()
        assert limited.fired
        assert case.machine.done == ["power off", "power on"]


def test_a_limit_that_lasts_is_told_and_not_waited_for() -> None:
    with connected("latitude") as case:
        case.provider.inject(get_fault(reply=Reply(429, {"message": "slow down"}, {"Retry-After": "3600"})))
        with pytest.raises(HostError, match=r"could not answer for 3600 s: too many requests") as caught:
            case.driver.power_state()
        assert caught.value.details == "slow down"


def test_retry_after_holds_everybody_back() -> None:
    slept: list[float] = []
    with connected("latitude") as case:
        access = LatitudeDriver(
            kind="latitude", server_id=case.provider.server_id, token="env:X", url=case.provider.url
        )
        waiting = Waiting(pace=Pace(), sleep=slept.append)
        limited = case.provider.inject(get_fault(reply=Reply(429, {}, {"Retry-After": "7"})))
        with connect_provider(access, lambda _: case.provider.token, Surroundings(waiting=waiting)) as driver:
            assert driver.power_state() is PowerState.ON
        assert limited.fired
        assert max(slept) == pytest.approx(7, abs=1)


def test_an_action_that_never_shows_ends_at_its_deadline() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 0.001)

    with connected("latitude") as case:
        access = LatitudeDriver(
            kind="latitude", server_id=case.provider.server_id, token="env:X", url=case.provider.url
        )
        said: list[str] = []
        waiting = Waiting(say=said.append, clock=lambda: now[0], sleep=sleep)
        around = Surroundings(waiting=waiting, requests_per_s=1000)
        case.provider.inject(Fault(reply=Reply(201, {"data": {}})))
        with connect_provider(access, lambda _: case.provider.token, around) as driver:
            with pytest.raises(HostError, match="switch off: not seen within 600 s") as caught:
                driver.power_off()
            assert "says On now" in caught.value.details
        assert now[0] < 660
        assert len(said) == 1


@pytest.mark.parametrize("kind", ["latitude", "teraswitch", "cherry"])
def test_a_wrong_token_names_its_reference_and_never_itself(kind: str) -> None:
    secret = "a-wrong-token-that-nobody-may-see"
    with connected(kind, secret=secret) as case:
        with pytest.raises(BadInput) as caught:
            case.driver.power_state()
        assert f"driver.token (env:{kind.upper()})" in caught.value.resolution
        assert secret not in caught.value.render()
        assert secret not in repr(caught.value.__context__)


def test_a_token_that_the_api_repeats_is_hidden() -> None:
    with connected("latitude") as case:
        case.provider.inject(get_fault(reply=Reply(422, {"message": f"no scope: {case.provider.token}"})))
        with pytest.raises(HostError) as caught:
            case.driver.power_state()
        assert caught.value.details == "no scope: ***"


def test_a_token_does_not_travel_unencrypted() -> None:
    access = LatitudeDriver(kind="latitude", server_id="sv_1", token="env:X", url="http://api.example.com")
    with pytest.raises(BadInput, match="would travel unencrypted"):
        connect_provider(access, lambda _: "never read", Surroundings())


def test_a_success_that_says_false_is_a_refusal() -> None:
    with connected("teraswitch") as case:
        case.provider.inject(Fault(reply=Reply(200, {"success": False, "message": "Service is suspended"})))
        with pytest.raises(HostError, match="refused the request") as caught:
            case.driver.boot_ipxe("http://192.0.2.1/x")
        assert caught.value.details == "Service is suspended"


def test_a_key_whose_answer_was_lost_is_found_and_not_added_twice() -> None:
    with connected("cherry") as case:
        lost = case.provider.inject(Fault(path="ssh-keys", drops=True, does=True))
        case.driver.reinstall(hostname="rpc-1", public_key=KEY)
        assert lost.fired
        assert len(case.provider.keys) == 1


class TestClientCredentials:
    def test_a_token_serves_until_it_ends(self) -> None:
        with connected("phoenixnap") as case:
            case.driver.power_state()
            case.driver.power_state()
            assert case.provider.tokens_given == 1
            form = json.loads(json.dumps(case.provider.calls[0].body))
            assert form == {"grant_type": "client_credentials"}

    def test_a_token_that_is_about_to_end_is_renewed(self) -> None:
        with connected("phoenixnap") as case:
            case.provider.token_s = 20
            case.driver.power_state()
            case.driver.power_state()
            assert case.provider.tokens_given == 2

    def test_a_token_that_was_revoked_is_renewed_once(self) -> None:
        with connected("phoenixnap") as case:
            case.driver.power_state()
            case.provider.revoke()
            case.driver.power_cycle()
            assert case.provider.tokens_given == 2
            assert case.machine.done == ["power off", "power on"]

    def test_a_wrong_secret_names_its_reference(self) -> None:
        secret = "a-wrong-secret-that-nobody-may-see"
        with connected("phoenixnap", secret=secret) as case:
            with pytest.raises(BadInput, match="gives no token to client client-1") as caught:
                case.driver.power_state()
            assert "driver.client_id and driver.client_secret (env:PHOENIXNAP)" in caught.value.resolution
            assert secret not in caught.value.render()

    @pytest.mark.parametrize("reply", [Reply(503, {}), Reply(200, PROXY_PAGE), Reply(200, {"token_type": "Bearer"})])
    def test_a_token_endpoint_that_fails_is_asked_again(self, reply: Reply) -> None:
        with connected("phoenixnap") as case:
            fault = case.provider.inject(Fault(path="openid-connect", reply=reply))
            assert case.driver.power_state() is PowerState.ON
            assert fault.fired
