"""Bakes of the smallest recipe with the real tools: what is built, what is refused, and what a killed bake leaves behind."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bake.pack import sha256_file
from bake.run import BakeResult
from qtrade.errors import ConflictError, NotFound, Refused, ToolError, TrustError
from qtrade.manifest import Image
from qtrade.settings import load_settings
from tests.fakes.left_behind import has_program, loops, mounts, processes, wait_for
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def baked(tiny) -> BakeResult:
    """The first bake of the recipe."""
    return tiny.bake("1.0")


@pytest.fixture(autouse=True)
def _roles_as_they_were(tiny, baked) -> Iterator[None]:
    roles = tiny.settings.project / "ansible/roles"
    kept = roles.with_name("roles.kept")
    shutil.copytree(roles, kept)
    yield
    shutil.rmtree(roles)
    kept.rename(roles)


def digests(image: Image) -> dict[str, str]:
    return {layer.role: layer.digest for layer in image.layers}


def test_a_bake_publishes_a_signed_image_of_all_layers(tiny, baked) -> None:
    assert {"one", "two"} <= set(baked.built)
    assert [layer.role for layer in baked.image.layers] == ["base", "one", "two"]
    published = tiny.store.read("tiny", "1.0")
    assert Image.model_validate_json(published.image_text) == baked.image
    assert all(tiny.store.has_blob(digest) for digest in baked.image.blobs())
    assert tiny.store.paths(tiny.store.find_record(baked.image.layers[2].key)) == (
        "d 0755:0:0 usr",
        "d 0755:0:0 usr/share",
        "d 0755:0:0 usr/share/tiny",
        "f usr/share/tiny/two.txt",
    )
    assert not any(tiny.settings.work_dir.iterdir())


def test_the_same_project_again_builds_nothing(tiny, baked) -> None:
    before = list(tiny.reporter.steps)
    again = tiny.bake("1.1")
    assert (again.built, again.image.id) == ((), baked.image.id)
    assert tiny.reporter.steps == before


def test_a_change_of_one_layer_builds_that_layer_only(tiny, baked) -> None:
    tiny.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/three.txt", state="touch", mode="0644")
    result = tiny.bake("1.2")
    assert result.built == ("two",)
    before, after = digests(baked.image), digests(result.image)
    assert {role for role in after if after[role] != before[role]} == {"two"}
    assert result.image.id != baked.image.id


def test_a_spec_that_does_not_hold_stops_the_image(tiny, baked) -> None:
    spec = tiny.settings.project / "ansible/roles/one/specs/test_one.py"
    spec.write_text(spec.read_text().replace('== "2"', '== "3"'))
    for _ in range(2):  # a failure is not remembered as a check that was made
        with pytest.raises(Refused, match="1 of 1 specs fail on layer one") as caught:
            tiny.bake("spec")
        assert caught.value.details.startswith("  one: test_jq_runs[chroot")
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "spec")


def test_a_role_that_fails_names_layer_message_and_log(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.fail", msg="the moon is not full")
    with pytest.raises(ToolError, match=r"^layer two failed$") as caught:
        tiny.bake("fail")
    assert "the moon is not full" in caught.value.details
    log = tiny.settings.state_dir / "logs/layer-two.log"
    assert str(log) in caught.value.resolution
    assert "the moon is not full" in log.read_text()
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "fail")


def test_a_layer_has_no_network(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.command", cmd="grep -vq lo: /proc/net/dev")
    tiny.add_task("two", "ansible.builtin.shell", cmd="test $(grep -c : /proc/net/dev) = 1")
    assert tiny.bake("offline").built == ("two",)


def test_a_host_key_in_a_layer_is_refused_by_the_seal(tiny) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    tiny.add_task("two", "ansible.builtin.copy", content="key", dest=key, mode="0600")
    with pytest.raises(Refused) as caught:
        tiny.bake("key")
    assert caught.value.details == "  two: etc/ssh/ssh_host_ed25519_key: a file of a machine or of the bake"
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "key")


def test_a_killed_bake_leaves_nothing_that_runs_and_the_next_one_completes(tiny) -> None:
    good = tiny.tasks("two").read_text()
    tiny.add_task("two", "ansible.builtin.command", cmd="sleep 300")
    command = [QTRADE, "bake", "--recipe", "tiny", "--version", "killed"]
    bake = subprocess.Popen(command, env=tiny.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = str(tiny.settings.state_dir)
    work = str(Path(state, "work", "layer-two"))
    try:
        wait_for(lambda: has_program(work, "sleep"), 60)
        assert mounts(state)
    finally:
        bake.send_signal(signal.SIGKILL)
        bake.wait()
    wait_for(lambda: not (processes(state) or mounts(state) or loops(state)), 15)
    tiny.tasks("two").write_text(good + "\n# mended\n")
    assert tiny.bake("killed").built == ("two",)
    assert not any(tiny.settings.work_dir.iterdir())


def test_an_interrupted_bake_ends_what_it_started(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.command", cmd="sleep 600")
    bake = subprocess.Popen(
        [QTRADE, "bake", "--recipe", "tiny", "--version", "interrupted"],
        env=tiny.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test run that was started in the background ignores interrupts, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - this process has no threads
    )
    state = str(tiny.settings.state_dir)
    wait_for(lambda: has_program(str(Path(state, "work/layer-two")), "sleep"), 60)
    bake.send_signal(signal.SIGINT)
    _, said = bake.communicate(timeout=60)
    assert bake.returncode == 130
    assert said.endswith("interrupted; run the same command again to go on\n")
    assert [*processes(state), *mounts(state), *loops(state)] == []


def test_a_version_that_is_taken_is_refused_before_anything_is_made(tiny, baked) -> None:
    tiny.bake("taken")
    assert tiny.bake("taken").image.id == baked.image.id, "the same again is no conflict"
    tiny.add_task("two", "ansible.builtin.copy", content="x", dest="/opt/taken", mode="0644")
    steps = list(tiny.reporter.steps)
    with pytest.raises(ConflictError, match="version taken of tiny exists, made of something else") as caught:
        tiny.bake("taken")
    assert "changed since: two" in caught.value.details
    assert tiny.reporter.steps == steps


@pytest.fixture
def stacked(tiny) -> Iterator[BakeResult]:
    """The recipe with layer two on top of layer one, baked."""
    manifest = tiny.settings.project / "manifests/images/tiny.yaml"
    text = manifest.read_text()
    fields = yaml.safe_load(text)
    fields["layers"][1]["needs"] = ["one"]
    manifest.write_text(yaml.safe_dump(fields))
    yield tiny.bake("stacked")
    manifest.write_text(text)


def flip_a_byte(tiny: TinyProject, digest: str) -> None:
    blob = tiny.settings.store / "blobs" / digest
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    assert sha256_file(blob) != digest


def test_a_damaged_layer_is_named_and_the_next_bake_makes_it_again(tiny, stacked) -> None:
    lower = digests(stacked.image)["one"]
    flip_a_byte(tiny, lower)
    tiny.add_task("two", "ansible.builtin.copy", content="more", dest="/opt/two", mode="0644")
    with pytest.raises(TrustError, match=f"^blob {lower} is damaged in the store$"):
        tiny.bake("on-damage")
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "on-damage")
    again = tiny.bake("on-damage")
    assert again.built == ("one", "two")
    assert digests(again.image)["one"] == lower
    assert sha256_file(tiny.store.open_blob(lower)) == lower


def test_from_scratch_mends_a_damaged_layer_that_nobody_read(tiny, stacked) -> None:
    lower = digests(stacked.image)["one"]
    flip_a_byte(tiny, lower)
    made = tiny.qtrade("bake", "--recipe", "tiny", "--only", "one", "--from-scratch", "--json")
    assert made["built"] == ["one"]
    assert sha256_file(tiny.settings.store / "blobs" / lower) == lower


def test_a_bake_that_builds_nothing_reads_no_blob(tiny, baked, monkeypatch) -> None:
    tiny.bake("warm")
    monkeypatch.setattr("qtrade.store.blobs.digest_of", lambda path: pytest.fail(f"{path} was read"))
    assert tiny.bake("nothing-read").built == ()


PLANTED = {
    "a Solana keypair (64 numbers)": ("/opt/validator.json", json.dumps(list(range(64)))),
    "a Datadog key": ("/etc/datadog-agent/datadog.yaml", "api_key: " + "0a1b" * 8),
    "a private key (PEM)": ("/etc/tls/key", f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n-----END PRIVATE KEY-----\n"),
    "a machine id": ("/etc/machine-id", "b642b4217b34b1e8d3bd915fc65c4452\n"),
}


def waiting(tiny: TinyProject) -> set[str]:
    """Return the layers that wait for the seal."""
    return {path.name for path in (tiny.settings.state_dir / "unsealed/blobs").glob("*")}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_secret_stops_the_bake_and_its_value_is_nowhere(tiny, what) -> None:
    path, content = PLANTED[what]
    folder = str(Path(path).parent)
    tiny.add_task("two", "ansible.builtin.file", path=folder, state="directory", mode="0755")
    tiny.add_task("two", "ansible.builtin.copy", content=content, dest=path, mode="0644")
    before = waiting(tiny)
    with pytest.raises(Refused, match="the seal found 1 thing") as caught:
        tiny.bake("secret")
    assert caught.value.details == f"  two: {path[1:]}: {what}"
    assert content.strip() not in caught.value.render()
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "secret")
    (kept_back,) = waiting(tiny) - before
    assert not tiny.store.has_blob(kept_back)


def test_an_unlisted_owner_stops_the_bake(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.copy", content="x", dest="/opt/x", mode="0644", owner="4711", group="4712")
    with pytest.raises(Refused) as caught:
        tiny.bake("owner")
    assert caught.value.details.splitlines() == [
        "  two: opt/x: owner 4711, which manifests/ids.yaml does not list",
        "  two: opt/x: group 4712, which manifests/ids.yaml does not list",
    ]


def test_two_unrelated_layers_that_touch_one_path_stop_the_bake(tiny) -> None:
    for role in ("one", "two"):
        tiny.add_task(role, "ansible.builtin.copy", content=role, dest="/opt/shared.conf", mode="0644")
    with pytest.raises(Refused) as caught:
        tiny.bake("overlap")
    assert caught.value.details == "  one and two: opt/shared.conf"


def test_only_makes_one_layer_and_publishes_nothing(tiny, baked) -> None:
    for role in ("one", "two"):
        tiny.add_task(role, "ansible.builtin.copy", content="only", dest=f"/opt/{role}", mode="0644")
    assert tiny.qtrade("bake", "--recipe", "tiny", "--only", "two", "--json") == {"recipe": "tiny", "built": ["two"]}
    plan = {
        step["name"]: step["action"] for step in tiny.qtrade("bake", "--recipe", "tiny", "--dry-run", "--json")["steps"]
    }
    assert (plan["one"], plan["two"]) == ("build", "hit")
    assert tiny.qtrade("bake", "--recipe", "tiny", "--until", "one", "--json")["built"] == ["one"]
    assert tiny.qtrade("bake", "--recipe", "tiny", "--version", "only", "--json")["built"] == []


def test_a_bake_goes_on_at_the_layer_that_failed(tiny, baked) -> None:
    good = tiny.tasks("two").read_text()
    tiny.add_task("one", "ansible.builtin.copy", content="resumed", dest="/opt/one", mode="0644")
    tiny.add_task("two", "ansible.builtin.copy", content="half", dest="/opt/half", mode="0644")
    tiny.add_task("two", "ansible.builtin.fail", msg="on purpose")
    with pytest.raises(ToolError, match="layer two failed"):
        tiny.bake("resume")
    assert "as its role left it when it failed" in tiny.shell("two", "cat /opt/half; exit 3\n", expect="half", code=3)
    tiny.tasks("two").write_text(good + "\n# mended for resuming\n")
    assert tiny.bake("resume").built == ("two",)
    tiny.shell("two", "cat /usr/share/tiny/two.txt; cat /opt/half\n", expect="No such file")


def test_explain_names_the_value_that_changed(tiny, baked) -> None:
    tiny.bake("explain")
    recipe = tiny.settings.project / "manifests/images/tiny.yaml"
    kept = recipe.read_text()
    try:
        recipe.write_text(kept.replace("two_text: tiny", "two_text: huge"))
        plan = tiny.qtrade("bake", "--recipe", "tiny", "--explain", "--json")
    finally:
        recipe.write_text(kept)
    steps = {step["name"]: step for step in plan["steps"]}
    assert steps["one"]["action"] == "hit"
    assert steps["two"]["changes"] == [{"field": "vars.two_text", "before": '"tiny"', "after": '"huge"'}]


def test_a_store_that_lost_the_record_of_a_lower_layer_is_mended(tiny, stacked) -> None:
    lower = next(layer for layer in stacked.image.layers if layer.role == "one")
    (tiny.settings.store / "records" / f"{lower.key}.json").unlink()
    again = tiny.bake("stacked-again")
    assert again.built == ("one",)
    assert again.image.id == stacked.image.id
