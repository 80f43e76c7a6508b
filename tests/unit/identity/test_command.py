"""Manifests, keys and options of `qtrade identity`: what is wrong is named, and no message shows a key."""

import json

import pytest
import yaml

from flash.identity.claims import Claims
from flash.identity.facts import Claim, ClaimState, Stop, StopKind, Votes
from flash.identity.guard import refuse_holder
from qtrade.errors import BadInput, ConflictError, NotFound, Refused, TrustError
from qtrade.store import LocalStore
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.towers import address, make_keypair

pytestmark = pytest.mark.unit

KEY = make_keypair(1)
ADDRESS, VOTE = address(KEY), address(make_keypair(2))


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    monkeypatch.setenv("STAKED_KEY", json.dumps(list(KEY)))
    for name in ("val-1", "val-2"):
        path = made.project / f"manifests/hosts/{name}.yaml"
        path.write_text(yaml.safe_dump(host_fields(name=name, role="validator")))
    environment = made.project / "manifests/environments/development.yaml"
    environment.parent.mkdir(exist_ok=True)
    environment.write_text("schema_version: 1\nname: development\n")
    write(made, "main")
    return made


def write(settings, name, **changes) -> None:
    fields = {
        "schema_version": 1, "name": name, "environment": "development", "address": ADDRESS, "vote_account": VOTE,
        "keypair": "env:STAKED_KEY", "hosts": ["val-1", "val-2"], "reference_rpcs": ["http://127.0.0.1:1"], **changes,
    }  # fmt: skip
    path = settings.project / f"manifests/identities/{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(fields))


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    return Cli(monkeypatch, capsys)


def take(cli: Cli, *options: str) -> tuple[int, str]:
    code, out, err = cli("identity", "take", "--host", "val-1", "--yes", *options)
    assert str(list(KEY))[1:40] not in out + err
    assert "Traceback" not in err
    return code, err


def test_a_host_of_no_identity(settings, cli) -> None:
    write(settings, "main", hosts=["val-2"])
    code, said = take(cli)
    assert (code, "no staked identity for host val-1" in said, "main (val-2)" in said) == (
        NotFound.exit_code,
        True,
        True,
    )


def test_a_host_of_several(settings, cli) -> None:
    other = {"address": address(make_keypair(3)), "vote_account": address(make_keypair(4))}
    write(settings, "other", **other)
    code, said = take(cli)
    assert (code, "add --identity NAME" in said) == (BadInput.exit_code, True)
    assert "several" not in take(cli, "--identity", "main")[1]


def test_two_manifests_of_one_key(settings, cli) -> None:
    write(settings, "other", vote_account=address(make_keypair(4)))
    code, said = take(cli)
    assert (code, "main has the same address" in said) == (BadInput.exit_code, True)


def test_hosts_of_another_environment(settings, cli) -> None:
    write(settings, "main", environment="staging")
    code, said = take(cli)
    assert (code, "val-1, val-2 is not of staging" in said) == (Refused.exit_code, True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1, 2, 3]", "is no keypair"),
        ("hunter2 hunter2", "is no keypair"),
        (json.dumps(list(KEY[:32] + make_keypair(9)[32:])), "is no keypair"),
        (json.dumps([300] * 64), "is no keypair"),
        (json.dumps(list(make_keypair(9))), f"is the key of {address(make_keypair(9))}"),
    ],
)
def test_a_key_of_no_use_stops_it_before_anybody_is_asked(value, said, settings, cli, monkeypatch) -> None:
    monkeypatch.setenv("STAKED_KEY", value)
    code, err = take(cli)
    assert (code, said in err) == (BadInput.exit_code, True), err
    assert value not in err
    assert not (settings.store / "leases").exists()


def test_nobody_answers(settings, cli) -> None:
    code, said = take(cli, "--first")
    assert code == Refused.exit_code
    for reason in ("candidate-silent", "chain-silent", "fleet-silent"):
        assert reason in said
    assert Claims(LocalStore(settings.store).objects).read(ADDRESS) is None
    # Both hosts' leases were given back, and the outcome was noted.
    note = json.loads((settings.state_dir / "identities/main.jsonl").read_text())
    assert (note["verb"], note["host"], "must not sign" in note["failed"]) == ("take", "val-1", True)


def test_show_and_dry_run(settings, cli) -> None:
    code, out, _ = cli("identity", "show", "--host", "val-1")
    assert (code, "none: this store knows no holder" in out, "never-held" in out) == (0, True, True)
    code, out, _ = cli("identity", "take", "--host", "val-1", "--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["allowed"], found["claim"]) == (Refused.exit_code, False, None)
    assert {"code", "text", "cure"} == set(found["reasons"][0])


def test_nobody_can_be_asked(settings, cli) -> None:
    code, _, err = cli("identity", "take", "--host", "val-1")
    assert (code, "add --yes" in err) == (2, True)
    code, _, err = cli("identity", "release", "--host", "val-1")
    assert (code, "add --yes" in err) == (2, True)


def claim(**changes) -> Claim:
    votes = Votes("val-1", "a" * 64, None, 7)
    stop = Stop("val-1", StopKind.POWER, 3, 9, power=("On", "Off", "Off"), votes=votes)
    return Claim(
        **{"identity": ADDRESS, "number": 1, "state": ClaimState.HELD, "host": "val-1", "stop": stop, **changes}
    )


def test_a_holder_that_the_manifest_does_not_name(settings, cli) -> None:
    Claims(LocalStore(settings.store).objects).begin(claim(host="val-9"))
    code, said = take(cli)
    assert (code, "val-9" in said) == (Refused.exit_code, True)


def test_claims_are_read_as_they_were_written_and_replaced_by_who_read_them(settings) -> None:
    claims = Claims(LocalStore(settings.store).objects)
    first = claims.begin(claim())
    assert claims.read(ADDRESS) == first
    second = claims.advance(first, state=ClaimState.RELEASED)
    assert second.number == 2
    with pytest.raises(ConflictError, match="somebody else changed the claim"):
        claims.advance(first, state=ClaimState.MOVING)
    with pytest.raises(ConflictError, match="val-1 released, number 2"):
        claims.begin(claim())
    assert claims.read(ADDRESS) == second


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"schema_version": 2}', b'{"schema_version": 1, "host": "x"}']
)
def test_a_damaged_claim_gives_the_identity_to_nobody(content, settings, cli) -> None:
    objects = LocalStore(settings.store).objects
    objects.put(f"identities/{ADDRESS}.json", content)
    assert take(cli, "--first")[0] == TrustError.exit_code
    with pytest.raises(TrustError, match="damaged"):
        refuse_holder(LocalStore(settings.store), "val-1")


def test_whoever_holds_or_moves_it_is_not_flashed(settings) -> None:
    store = LocalStore(settings.store)
    claims = Claims(store.objects)
    refuse_holder(store, "val-1")
    now = claims.begin(claim())
    with pytest.raises(Refused, match="val-1 has the staked identity"):
        refuse_holder(store, "val-1")
    now = claims.advance(now, state=ClaimState.MOVING, to="val-2")
    with pytest.raises(Refused, match="val-2 is about to have the staked identity"):
        refuse_holder(store, "val-2")
    claims.advance(now, state=ClaimState.RELEASED, to="")
    for host in ("val-1", "val-2"):
        refuse_holder(store, host)
