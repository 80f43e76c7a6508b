"""`qtrade keys` and `qtrade images promote|revoke|verify` as people type them."""

import json
import subprocess

import pytest
import yaml

from qtrade.settings import Settings
from qtrade.signing import load_key
from qtrade.trust.keyring import load_keyring
from tests.fakes.cli import Cli
from tests.fakes.examples import make_image, make_settings
from tests.fakes.releases import Room

pytestmark = pytest.mark.unit


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    return Cli(monkeypatch, capsys)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    monkeypatch.delenv("QTRADE_KEYS_DIR", raising=False)
    for name in ("development", "staging", "production"):
        # What production asks to have been seen on staging has tests of its own (trust/test_staging.py, trust/test_two_keys.py).
        asks = {"integration": False, "rollout": False, "load_test": False, "keys": 1}
        fields = {"schema_version": 1, "name": name, "allow_standins": name == "development", "promotion": asks}
        text = yaml.safe_dump(fields)
        (settings.project / f"manifests/environments/{name}.yaml").write_text(text)
    return settings


@pytest.fixture
def room(cli, settings, tmp_path) -> Room:
    """A store that keeps statements, which the commands find, and keys with an offline root."""
    assert cli("keys", "init", "--root-key", str(tmp_path / "usb/root.key"))[0] == 0
    return Room(settings)


def test_init_makes_keys_and_show_lists_them(cli, settings, tmp_path) -> None:
    code, out, err = cli("keys", "init", "--root-key", str(tmp_path / "usb/root.key"), "--expires", "10")
    assert (code, err) == (0, "")
    assert out.startswith("trust set 1, good until ")
    assert cli("keys", "show")[1] == out
    build = load_key(settings.keys_dir, "build").public.keyid
    assert f"build            {build}  (private key here)" in out
    root = load_key(tmp_path / "usb", "root").public.keyid
    assert f"root             {root}\n" in out, "the root key is not in the folder and must not be called so"
    document = cli.json("keys", "show")
    assert document["here"] == ["build", "promote", "job"]
    assert set(document["root"]) == {root}
    assert document["expires"] - document["issued_at"] == 864000


def test_no_private_key_is_ever_printed(cli, settings, tmp_path) -> None:
    said = [cli("keys", "init"), cli("keys", "rotate", "build"), cli("keys", "show"), cli("keys", "show", "--json")]
    private = [path.read_text().splitlines()[1] for path in settings.keys_dir.glob("*.key")]
    assert len(private) == 4
    for _, out, err in said:
        assert "PRIVATE" not in out + err
        assert not any(line in out + err for line in private)


def test_keys_lie_where_the_environment_says(cli, settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_KEYS_DIR", str(tmp_path / "medium"))
    assert cli("keys", "init")[0] == 0
    assert (tmp_path / "medium/trust.json").is_file()
    assert not settings.keys_dir.exists()


def test_rotate_revoke_and_renew(cli, settings) -> None:
    assert cli("keys", "init")[0] == 0
    old = next(iter(load_keyring(settings).trust.build))
    rotated = cli.json("keys", "rotate", "build")
    assert (rotated["sequence"], set(rotated["retired"]["build"])) == (2, {old})
    revoked = cli.json("keys", "revoke", old[:16])
    assert (revoked["sequence"], set(revoked["revoked"]), revoked["retired"]["build"]) == (3, {old}, {})
    assert cli.json("keys", "renew", "--expires", "1")["sequence"] == 4


def test_a_root_is_rotated_to_a_file(cli, settings, tmp_path) -> None:
    assert cli("keys", "init", "--root-key", str(tmp_path / "a.key"))[0] == 0
    code, _, err = cli("keys", "rotate", "root", "--root-key", str(tmp_path / "a.key"))
    assert code == 2
    assert "--new-root" in err
    args = ("--root-key", str(tmp_path / "a.key"), "--new-root", str(tmp_path / "b.key"))
    assert set(cli.json("keys", "rotate", "root", *args)["root"]) == {load_key(tmp_path, "b").public.keyid}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("keys", "show"), 4, "there is no trust set"),
        (("keys", "rotate", "bake"), 2, "there is no role bake"),
        (("keys", "import", "/nonexistent"), 3, "holds no trust set"),
        (("images", "promote", "1", "--to", "prod"), 2, "there is no channel prod"),
    ],
)
def test_errors_have_a_code_and_a_cure(cli, settings, args, code, says) -> None:
    found, out, err = cli(*args)
    assert (found, out) == (code, "")
    assert says in err
    assert "To mend it" in err


def test_a_missing_root_is_asked_for_by_its_file(cli, settings, tmp_path) -> None:
    cli("keys", "init", "--root-key", str(tmp_path / "usb/root.key"))
    code, out, err = cli("keys", "rotate", "job")
    assert (code, out) == (4, "")
    assert f"the root key is not at {settings.keys_dir}/root.key" in err


def test_promote_verify_and_revoke(cli, room) -> None:
    image = room.publish()
    args = ("images", "promote", "0.1.0", "--recipe", "demo", "--to", "production")
    plan = cli.json(*args, "--dry-run")
    assert (plan["sequence"], plan["done"], room.store.channel("demo", "production")) == (1, False, None)
    code, out, err = cli(*args)
    assert code == 2, "nobody was asked, and production was promoted"
    assert "add --yes" in err
    code, out, err = cli(*args, "--yes")
    assert (code, out) == (0, "leads: production -> demo 0.1.0 (number 1); tests passed: boot\n"), err
    assert room.store.channel("demo", "production").image_id == image.id

    proof = cli.json("images", "verify", "0.1.0", "--recipe", "demo")
    assert proof["holds"]
    assert proof["refusals"] == {"development": [], "staging": [], "production": []}
    assert proof["statements"]["promotions"] == 1

    code, out, err = cli("images", "revoke", "0.1.0", "--recipe", "demo", "--reason", "eats ledgers", "--yes")
    assert (code, out) == (0, f"revoked: demo 0.1.0 {image.id}\n")
    assert "channel production still leads to a revoked version" in err
    code, out, _ = cli("images", "verify", "0.1.0", "--recipe", "demo")
    assert code == 0
    assert "production   refuses it: it was revoked: eats ledgers" in out
    assert cli(*args, "--yes")[0] == 7


def test_standins_are_refused_for_production(cli, room) -> None:
    room.publish(components=make_image().components)
    code, out, err = cli("images", "promote", "0.1.0", "--recipe", "demo", "--to", "production", "--yes")
    assert (code, out) == (7, "")
    assert "it holds stand-ins: agent" in err


def test_verify_prints_commands_that_hold_where_they_are_run(cli, room, tmp_path) -> None:
    room.publish()
    code, out, _ = cli("images", "verify", "0.1.0", "--recipe", "demo", "--export", str(tmp_path / "out"))
    assert code == 0
    lines = out.partition("Without qtrade")[2].splitlines()[1:]
    assert lines[0].strip() == "openssl pkeyutl -verify -rawin -pubin -inkey build.pem -sigfile list.sig -in list"
    script = "set -eu\n" + "\n".join(lines)
    subprocess.run(["sh", "-c", script], cwd=tmp_path / "out", check=True, capture_output=True)


def test_verify_of_an_altered_version_fails_and_says_what(cli, room) -> None:
    room.publish()
    path = room.store.root / "versions/demo/0.1.0.json"
    path.write_text(path.read_text().replace("6.12.1", "6.12.2"))
    code, out, err = cli("images", "verify", "0.1.0", "--recipe", "demo")
    assert code == 6
    assert "FAILS  signatures and id: demo 0.1.0: image.json was altered" in out
    assert "does not hold" in err
    document = json.loads(cli("images", "verify", "0.1.0", "--recipe", "demo", "--json")[1])
    assert document["holds"] is False
