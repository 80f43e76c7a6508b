"""What the drivers say and hear, against contracts: ours, the providers' own documents, and the models of Latitude's SDK."""

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from latitudesh_python_sdk import models as sdk

from tests.contracts.contract import load_contract
from tests.contracts.official import answer_from, find_document
from tests.fakes.providers import Call
from tests.fakes.providers.phoenixnap import TOKEN_PATH
from tests.fakes.providers.provider import Reply
from tests.unit.drivers.providers import KEY, Case, connected

# openapi-core does not check OAuth2 tokens, and says so each time; our own contract does.
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:Unsupported scheme type")]

SCRIPT = "http://192.0.2.1:8080/a1b2/boot.ipxe"


def use_all(kind: str, case: Case) -> None:
    """Do everything that the driver can do."""
    driver = case.driver
    driver.power_cycle()
    driver.boot_ipxe(SCRIPT)
    case.provider.settle()
    if kind in ("latitude", "cherry"):
        driver.enter_rescue(KEY)
        driver.leave_rescue()
    if kind == "latitude":
        driver.lock()
        driver.unlock()
    if kind != "phoenixnap":
        driver.reinstall(hostname="rpc-1", public_key=KEY)


@pytest.mark.parametrize("kind", ["latitude", "teraswitch", "cherry", "phoenixnap"])
def test_every_call_keeps_our_contract_and_every_entry_is_used(kind: str) -> None:
    contract = load_contract(kind)
    with connected(kind) as case:
        use_all(kind, case)
        used = {contract.check(call, reply) for call, reply in case.provider.exchanges}
    assert used == {entry["call"] for entry in contract.calls}
    assert all(entry["source"] for entry in contract.calls)


def test_our_contract_refuses_what_is_not_in_it() -> None:
    contract, headers = load_contract("latitude"), {"authorization": "Bearer x"}
    wipe = {"data": {"type": "reinstalls", "attributes": {"operating_system": "ipxe", "ipxe": SCRIPT}}}
    with pytest.raises(jsonschema.ValidationError):
        contract.check(Call("POST", "/servers/sv_1/reinstall", wipe, {}, headers), Reply(201))
    with pytest.raises(AssertionError, match="not in the contract"):
        contract.check(Call("POST", "/servers/sv_1/destroy", None, {}, headers), Reply(201))


@pytest.mark.parametrize("kind", ["teraswitch", "phoenixnap"])
def test_the_providers_own_document_allows_every_call_and_answer(kind: str) -> None:
    document = find_document(kind)
    with connected(kind) as case:
        checked = answer_from(document, case.provider, is_in_document=lambda call: call.path != TOKEN_PATH)
        use_all(kind, case)
        asked = [call for call in case.provider.calls if call.path != TOKEN_PATH]
    assert checked == asked
    assert case.provider.errors == []
    assert len({(call.method, call.path) for call in checked}) == (6 if kind == "teraswitch" else 4)


@pytest.mark.parametrize("kind", ["teraswitch", "phoenixnap"])
def test_the_document_refuses_a_wrong_request(kind: str) -> None:
    document = find_document(kind)
    headers = {"content-type": "application/json"}
    wrong = {
        "teraswitch": Call("POST", "/v2/Metal/7/Reinstall", {"ipxeUrl": SCRIPT}, {}, headers),
        "phoenixnap": Call("POST", "/bmc/v1/servers/1/actions/reboot", {"bootType": "PXE"}, {}, headers),
    }[kind]
    with pytest.raises(Exception, match=r"(?i)body"):
        document.check_request(wrong)


REQUESTS: dict[str, Callable[[Any], Any]] = {
    "actions": sdk.CreateServerActionServersRequestBody.model_validate,
    "reinstall": sdk.CreateServerReinstallServersRequestBody.model_validate,
    "ssh_keys": sdk.PostSSHKeySSHKeysRequestBody.model_validate,
}
ANSWERS: dict[str, Callable[[Any], Any]] = {
    "actions": sdk.ServerAction.model_validate,
    "rescue_mode": sdk.ServerRescue.model_validate,
    "exit_rescue_mode": sdk.ServerRescue.model_validate,
    "lock": sdk.Server.model_validate,
    "unlock": sdk.Server.model_validate,
    "operating_systems": sdk.OperatingSystems.model_validate,
}


def test_latitudes_sdk_takes_our_requests_and_our_fakes_answers() -> None:
    with connected("latitude") as case:
        use_all("latitude", case)
        exchanges = list(case.provider.exchanges)
        server_id = case.provider.server_id
    requests = 0
    for call, reply in exchanges:
        verb = call.path.rsplit("/", 1)[-1]
        if call.body is not None:
            model = REQUESTS[verb](call.body)
            # Nothing that we send is unknown to the SDK: what it read, it writes again.
            assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == call.body
            requests += 1
        if verb == server_id:
            shown = sdk.Server.model_validate(reply.body)
            assert shown.data is not None
            assert shown.data.attributes is not None
            assert shown.data.attributes.status == reply.body["data"]["attributes"]["status"]
        elif verb == "ssh_keys":
            (sdk.SSHKeys if call.method == "GET" else sdk.PostSSHKeyResponseBody).model_validate(reply.body)
        elif reply.body is not None:
            ANSWERS[verb](reply.body)
    assert requests == 5


def test_latitudes_sdk_reads_our_fakes_errors() -> None:
    with connected("latitude", secret="wrong") as case:
        with pytest.raises(Exception, match="credential"):
            case.driver.power_state()
        ((_, reply),) = case.provider.exchanges
    (error,) = sdk.ErrorObjectData.model_validate(reply.body).errors or []
    assert (error.status, error.detail) == ("401", "Invalid token")
