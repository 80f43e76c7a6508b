"""A version is proven offline, by qtrade and by the commands that it prints."""

import os
import subprocess
import time

import pytest

from qtrade.errors import NotFound, Refused, TrustError
from qtrade.trust.keyring import init_keys, revoke_key, rotate_key
from qtrade.trust.proof import commands, export_proof, prove
from qtrade.trust.refusal import Code
from qtrade.trust.release import plan_promotion, promote
from tests.fakes.examples import make_settings
from tests.fakes.releases import Room, blobs_of, rules

pytestmark = pytest.mark.unit

NOW = int(time.time())
RULES = tuple(rules(channel) for channel in ("dev", "staging", "production"))


@pytest.fixture
def room(tmp_path) -> Room:
    settings = make_settings(tmp_path)
    init_keys(settings, root_key=tmp_path / "root.key")
    return Room(settings)


def proof_of(room):
    return prove(room.store, "demo", "0.1.0", trust=room.keyring.trust, rules=RULES, now=NOW)


def export(room, folder):
    return export_proof(room.store, "demo", "0.1.0", trust=room.keyring.trust, folder=folder)


def run_all(lines, folder) -> list[int]:
    """Run the commands as they stand, in a shell that knows nothing of qtrade."""
    env = {"PATH": os.defpath}
    options = {"shell": True, "cwd": folder, "env": env, "capture_output": True}
    return [subprocess.run(line, check=False, **options).returncode for line in lines]


def raise_version(room) -> None:
    plan = plan_promotion(room.store, room.keyring, rules("production"), "demo", "0.1.0", expires_days=1, now=NOW)
    promote(room.store, room.keyring, plan)


def test_a_good_version_holds_and_says_where_it_may_run(room) -> None:
    image = room.publish()
    proof = proof_of(room)
    assert proof.holds
    assert proof.image_id == image.id
    assert [check.ok for check in proof.checks] == [True, True]
    codes = {name: [one.code for one in refusals] for name, refusals in proof.refusals.items()}
    assert codes == {"development": [], "staging": [Code.NOT_PROMOTED], "production": [Code.NOT_PROMOTED]}
    raise_version(room)
    assert not any(proof_of(room).refusals.values())


def test_the_printed_commands_prove_it_without_qtrade(room, tmp_path) -> None:
    image = room.publish()
    raise_version(room)
    lines = export(room, tmp_path / "out")
    assert lines == commands(image.id, has_promotion=True)
    assert len(lines) == 4
    assert run_all(lines, tmp_path / "out") == [0, 0, 0, 0]


def test_without_a_promotion_there_is_no_command_for_one(room, tmp_path) -> None:
    room.publish()
    lines = export(room, tmp_path / "out")
    assert run_all(lines, tmp_path / "out") == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "failing"),
    [("list", {0, 1, 2}), ("list.sig", {0}), ("build.pem", {0}), ("promotion.pae", {3}), ("promotion.sig", {3})],
)
def test_the_printed_commands_find_an_altered_file(room, tmp_path, name, failing) -> None:
    room.publish()
    raise_version(room)
    lines = export(room, tmp_path / "out")
    path = tmp_path / "out" / name
    content = path.read_bytes()
    at = content.index(b"layer") + 8 if name == "list" else len(content) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert {number for number, code in enumerate(run_all(lines, tmp_path / "out")) if code} == failing


@pytest.mark.parametrize("name", ["base", "app", "kernel", "initrd"])
def test_the_printed_commands_find_an_altered_or_missing_blob(room, tmp_path, name) -> None:
    digest = blobs_of(room.publish())[name]
    lines = export(room, tmp_path / "out")
    path = tmp_path / "out/blobs" / digest
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")
    assert run_all(lines, tmp_path / "out") == [0, 0, 1]
    path.unlink()
    assert run_all(lines, tmp_path / "out") == [0, 0, 1]


def test_an_altered_blob_fails_its_check_only(room) -> None:
    digest = blobs_of(room.publish())["app"]
    path = room.store.root / "blobs" / digest
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")
    proof = proof_of(room)
    assert not proof.holds
    assert [check.ok for check in proof.checks] == [True, False]
    assert "layer app is too long" in proof.checks[1].detail


def test_an_altered_document_fails_the_first_check(room) -> None:
    room.publish()
    path = room.store.root / "versions/demo/0.1.0.json"
    path.write_text(path.read_text().replace("quiet", "debug"))
    proof = proof_of(room)
    assert [check.ok for check in proof.checks] == [False, True]
    assert "list was altered" in proof.checks[0].detail
    assert proof.refusals == {}


def test_a_retired_key_still_proves_and_a_revoked_one_does_not(room, tmp_path) -> None:
    room.publish()
    old = next(iter(room.keyring.trust.build))
    rotate_key(room.settings, "build", root_key=tmp_path / "root.key")
    assert proof_of(room).checks[0].detail == f"build key {old[:16]}, retired"
    assert run_all(export(room, tmp_path / "out"), tmp_path / "out") == [0, 0, 0]
    revoke_key(room.settings, old, root_key=tmp_path / "root.key")
    proof = proof_of(room)
    assert not proof.holds
    assert f"was signed by {old[:16]}, which is revoked" in proof.checks[0].detail
    with pytest.raises(TrustError, match="no build key of the trust set signed the list"):
        export(room, tmp_path / "again")


def test_an_export_overwrites_nothing(room, tmp_path) -> None:
    room.publish()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(Refused, match="is not empty"):
        export(room, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_version_that_is_not_there_is_named(room) -> None:
    with pytest.raises(NotFound, match=r"no version 0\.1\.0 of demo"):
        proof_of(room)
