"""Jobs as the agent takes them, and reports as the agent signs them."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from flash.agent import trust as agent_trust
from flash.agent.job import open_job, parse_job
from flash.agent.report import sign_report
from flash.jobs import JobBuilder, check_report
from flash.trust import VerifiedImage
from qtrade.errors import HostError, TrustError
from qtrade.signing import JOB_TYPE, SigningKey, open_envelope
from qtrade.trust.keyring import Keyring, ensure_keyring
from tests.fakes.examples import make_host, make_image, make_settings

pytestmark = pytest.mark.unit

NONCE = "5" * 64
REPORT = {"event": "report", "ok": True, "nonce": NONCE, "boot_id": "b", "error": None}


@pytest.fixture
def keyring(tmp_path) -> Keyring:
    return ensure_keyring(make_settings(tmp_path))


@pytest.fixture
def key(keyring) -> SigningKey:
    return keyring.signer("job")


@pytest.fixture
def jobs(keyring) -> JobBuilder:
    return JobBuilder(make_host(cmdline="console=ttyS1"), keyring)


@pytest.fixture
def image(key) -> VerifiedImage:
    image = make_image()
    text = image.list_text()
    return VerifiedImage(image, image.to_json(), text, key.sign(text.encode()))


def payload_of(job, key) -> dict:
    return open_envelope(job.envelope, JOB_TYPE, (key.public,))


def test_an_install_names_disks_layout_and_trust(jobs, key, keyring, image) -> None:
    payload = payload_of(jobs.install(image, source="http://h/s", report="http://h/s/report", bundle={"b": 1}), key)
    assert payload.pop("issued_at") > 0
    assert len(payload.pop("nonce")) == 64
    assert payload == {
        "schema_version": 1,
        "kind": "install",
        "host": "rpc-1",
        "image": {
            "id": image.image.id,
            "version": "0.1.0",
            "list": image.list_text,
            "sig": base64.b64encode(image.list_sig).decode(),
            "image_json": image.image_text,
        },
        "source": "http://h/s",
        "report": "http://h/s/report",
        "os_disk": {"serial": "OS-1", "size_bytes": 4 << 30},
        "protected": [{"serial": "LEDGER-1"}],
        "data": [{"wwid": "eui.01"}],
        "layout": {"esp_mib": 128, "system_mib": 8192},
        "cmdline": "console=ttyS1",
        "environment": "development",
        "trust": keyring.envelope,
        "bundle": {"b": 1},
    }


KINDS = (
    "install",
    "stage",
    "arm",
    "commit",
    "apply",
    "secret",
    "reboot",
    "drain",
    "undrain",
    "prepare_disks",
    "decommission",
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_agent_takes_every_kind_of_job(jobs, key, image, kind) -> None:
    bundle = key.envelope("application/vnd.qtrade.bundle+json", {})
    made = {
        "install": lambda: jobs.install(image, source="http://h/s", report="http://h/s/report", bundle=bundle),
        "stage": lambda: jobs.stage(image, source="http://h/s", bundle=bundle),
        "arm": lambda: jobs.arm(image.image.id),
        "commit": lambda: jobs.commit(image.image.id),
        "apply": lambda: jobs.apply(bundle),
        "secret": lambda: jobs.secrets({"token": b"\x00secret", "other": b"x"}),
        "reboot": lambda: jobs.simple("reboot"),
        "drain": lambda: jobs.simple("drain"),
        "undrain": lambda: jobs.simple("undrain"),
        "prepare_disks": lambda: jobs.errand("prepare_disks", image=make_image(), report="http://h/s/report"),
        "decommission": lambda: jobs.errand("decommission", image=make_image(), report="http://h/s/report"),
    }[kind]()
    payload = payload_of(made, key)
    assert payload["nonce"] == made.nonce
    assert parse_job(json.dumps(payload).encode()).kind == kind


@pytest.mark.parametrize("kind", ["reboot", "drain"])
def test_the_agent_finds_the_keys_of_a_job_from_the_pinned_root(jobs, keyring, kind) -> None:
    made = jobs.simple(kind)
    trust = agent_trust.open_pinned(agent_trust.offered_set(made.envelope, JOB_TYPE), jobs.root_id)
    assert open_job(made.envelope, trust.job).nonce == made.nonce
    assert set(trust.builders) == set(keyring.trust.build)
    assert (trust.sequence, trust.lab) == (1, True)


def test_a_promotion_goes_along_with_its_image(jobs, key, image) -> None:
    promoted = replace(image, promotion={"payload": "x"})
    payload = payload_of(jobs.stage(promoted, source="http://h/s", bundle={}, allow_older=True), key)
    assert payload["image"]["promotion"] == {"payload": "x"}
    assert payload["allow_older"] is True


def test_an_install_says_what_it_may_give_up(jobs, key, image) -> None:
    asked = {"adopt": "0123456789abcdef", "wipe_state": True}
    made = jobs.install(image, source="http://h/s", report="http://h/s/report", bundle={}, asked=asked)
    parsed = parse_job(json.dumps(payload_of(made, key)).encode())
    assert (parsed.adopt, parsed.remake_system, parsed.wipe_state) == ("0123456789abcdef", False, True)


def test_a_decommission_protects_the_data_disks_too(jobs, key) -> None:
    payload = payload_of(jobs.errand("decommission", image=make_image(), report="http://h/s/report"), key)
    assert payload["protected"] == [{"serial": "LEDGER-1"}, {"wwid": "eui.01"}]
    assert "data" not in payload


def test_no_two_jobs_have_one_nonce(jobs) -> None:
    assert jobs.simple("drain").nonce != jobs.simple("drain").nonce


def test_a_secret_stands_in_its_own_job_only(jobs, key, image) -> None:
    assert payload_of(jobs.secrets({"token": b"hunter2"}), key)["secrets"] == [
        {"name": "token", "value": "aHVudGVyMg=="}
    ]
    assert "secrets" not in payload_of(jobs.stage(image, source="http://h/s", bundle={}), key)


@pytest.mark.parametrize("name", ["rpc-1", "hôte 主机 “…”", '"quoted" \\ \u2028'])
def test_a_report_of_the_agent_is_accepted_whatever_it_says(name) -> None:
    report = json.loads(json.dumps(sign_report({**REPORT, "name": name}, NONCE)))
    assert check_report(report, NONCE, "rpc-1")["name"] == name


def test_a_report_is_signed_over_canonical_json() -> None:
    text = json.dumps(REPORT, sort_keys=True, separators=(",", ":"))
    digest = hmac.new(NONCE.encode(), text.encode(), hashlib.sha256).hexdigest()
    assert check_report({**REPORT, "hmac": digest}, NONCE, "rpc-1") == {**REPORT, "hmac": digest}


@pytest.mark.parametrize(
    "report",
    [
        {**REPORT, "hmac": "0" * 64},
        {**REPORT, "hmac": "ü"},
        {**REPORT, "hmac": None},
        REPORT,
        {**sign_report({**REPORT, "ok": False}, NONCE), "ok": True},
        sign_report(REPORT, "6" * 64),
        {},
    ],
    ids=["wrong", "not ascii", "null", "none", "altered", "of another nonce", "empty"],
)
def test_a_report_that_the_agent_did_not_sign_is_refused(report) -> None:
    with pytest.raises(TrustError, match="not of the agent that was given the job"):
        check_report(report, NONCE, "rpc-1")


def test_a_signed_report_of_another_job_is_refused() -> None:
    with pytest.raises(TrustError, match="of another job"):
        check_report(sign_report({**REPORT, "nonce": "6" * 64}, NONCE), NONCE, "rpc-1")


def test_a_report_of_a_failure_is_the_agents_own_error() -> None:
    error = {"code": "disk-missing", "message": "no disk matches “OS-1”", "remedy": "plug it in"}
    with pytest.raises(HostError) as caught:
        check_report(sign_report({**REPORT, "ok": False, "error": error}, NONCE), NONCE, "rpc-1")
    assert caught.value.brief == "rpc-1: no disk matches “OS-1”"
    assert (caught.value.details, caught.value.resolution) == ("code: disk-missing", "plug it in")


def test_a_failure_without_words_still_has_a_cure() -> None:
    with pytest.raises(HostError, match="rpc-1: the agent failed") as caught:
        check_report(sign_report({**REPORT, "ok": False}, NONCE), NONCE, "rpc-1")
    assert caught.value.resolution
