"""The command line: help everywhere, errors with a cure, data on stdout."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml

from qtrade import __version__, errors
from qtrade.cli import app, main
from qtrade.redaction import register_secret
from qtrade.settings import Settings
from qtrade.store import ChannelPointer, open_store
from tests.fakes.cli import Cli
from tests.fakes.examples import make_recipe, make_settings, recipe_fields
from tests.fakes.locks import write_lock_of
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit

QTRADE = Path(sys.executable).parent / "qtrade"


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))


COMMANDS = list(walk(typer.main.get_command(app)))


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    return Cli(monkeypatch, capsys)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    write_project(settings)
    project = settings.project
    for layer in recipe_fields()["layers"]:
        (project / "ansible/roles" / layer["role"]).mkdir()
    for name in ("agent", "parts"):
        (project / name).mkdir()
    (project / "manifests/ids.yaml").write_text("schema_version: 1\n")
    (project / "manifests/images/demo.yaml").write_text(yaml.safe_dump(recipe_fields()))
    write_lock_of(settings, make_recipe())
    return settings


def test_the_commands_are_these() -> None:
    assert {" ".join(path) for path in COMMANDS} >= {
        "",
        "bake",
        "lock",
        "tools",
        "images list",
        "images show",
        "images gc",
        "flash",
        "push",
        "rollback",
        "hosts list",
        "hosts show",
        "hosts inventory",
        "lab up",
        "lab down",
        "lab status",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "qtrade")
def test_every_command_has_help(cli, path) -> None:
    code, out, err = cli(*path, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: qtrade {' '.join(path)}".rstrip())
    usage, _, rest = out.partition("\n\n")
    assert rest.strip(), usage


def test_the_version_is_printed(cli) -> None:
    assert cli("--version") == (0, f"{__version__}\n", "")


CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.QtradeError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_is_brief_details_and_cure_on_stderr_with_its_code(error, monkeypatch, capsys) -> None:
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    register_secret("correct-horse-battery")

    def fail() -> None:
        raise error("it broke", details="line 1\ncorrect-horse-battery\n", resolution="mend it")

    with pytest.raises(SystemExit) as ended:
        main(fail)
    assert ended.value.code == error.exit_code
    assert capsys.readouterr() == ("", "error: it broke\nline 1\n***\nTo mend it: mend it\n")


def test_exit_codes_are_distinct_and_documented() -> None:
    codes = {error.__name__: error.exit_code for error in CLASSES}
    lines = [line.lstrip("+- ").split() for line in errors.__doc__.splitlines()]
    documented = {words[0]: int(words[1]) for words in lines if len(words) > 2 and words[1].isdigit()}
    assert documented == codes
    assert len(set(codes.values())) == len(codes) == 9


def test_a_traceback_is_shown_with_debug_only(cli, settings, monkeypatch) -> None:
    _, _, err = cli("bake", "--recipe", "ghost", "--version", "1")
    assert "Traceback" not in err
    monkeypatch.setenv("QTRADE_DEBUG", "")  # so that what --debug sets is undone
    _, _, err = cli("--debug", "bake", "--recipe", "ghost", "--version", "1")
    assert "Traceback" in err
    assert err.rstrip().splitlines()[-1].startswith("To mend it:")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (
            ("bake", "--recipe", "ghost", "--version", "1"),
            4,
            ("there is no recipe 'ghost'", "use one of: demo, lab, production"),
        ),
        (("bake", "--recipe", "demo", "--version", "a b"), 2, ("'a b' is no version",)),
        (("lock", "--recipe", "demo", "jq"), 2, ("names go with --update", "qtrade lock --update NAME")),
        (("lock", "--recipe", "demo", "--update", "--check"), 2, ("--update and --check do not go together",)),
        (("lock", "--recipe", "demo", "--update", "ghost"), 4, ("neither a component nor a locked package of demo",)),
        (("flash", "--host", "ghost", "--yes"), 4, ("there is no host ghost", "known hosts: rpc-1")),
        (("flash", "--host", "rpc-1", "--yes"), 7, ("the store has no image of demo", "qtrade bake")),
        (("flash", "--host", "rpc-1", "--door", "window"), 2, ("there is no door window",)),
        (("images", "show", "9", "--recipe", "demo"), 4, ("no version 9 of demo",)),
        (("rollback", "--host", "rpc-1"), 2, ("nobody can be asked", "add --yes")),
        (("hosts", "show", "ghost"), 4, ("there is no host ghost",)),
        (("push", "--host", "ghost"), 4, ("there is no host ghost",)),
    ],
)
def test_what_people_get_wrong_has_an_answer(cli, settings, monkeypatch, args, code, words) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    found, out, err = cli(*args)
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert "To mend it: " in err
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_a_missing_option_is_the_users_fault(cli, settings) -> None:
    code, out, err = cli("bake")
    assert (code, out) == (2, "")
    assert "--version" in err


def test_the_plan_of_a_bake_is_one_json_document(cli, settings) -> None:
    plan = cli.json("bake", "--recipe", "demo", "--version", "1", "--dry-run")
    assert (plan["recipe"], plan["expected_s"]) == ("demo", None)
    steps = plan["steps"]
    assert [step["name"] for step in steps] == ["base", "initrd", "installer", "host", "app", "tool", "top"]
    assert {tuple(sorted(step)) for step in steps} == {("action", "changes", "key", "name", "reason")}
    assert {step["action"] for step in steps} == {"build"}


def test_the_plan_of_a_bake_for_people_names_every_step(cli, settings) -> None:
    code, out, _ = cli("bake", "--recipe", "demo", "--version", "1", "--dry-run")
    assert code == 0
    assert out.splitlines() == [
        "bake demo 1: 7 of 7 steps to make",
        "  build  base       not in the store",
        *(f"  build  {name:9}  base changed" for name in ("initrd", "installer", "host", "app", "tool", "top")),
    ]


def test_the_plan_of_a_bake_says_how_long_it_took_the_last_time(cli, settings) -> None:
    names = ("layer base", "initrd", "installer", "layer host", "layer app", "layer tool", "layer top")
    settings.state_dir.mkdir()
    (settings.state_dir / "timings.json").write_text(json.dumps(dict.fromkeys(names, 20)))
    _, out, _ = cli("bake", "--recipe", "demo", "--version", "1", "--dry-run")
    assert out.splitlines()[:2] == [
        "bake demo 1, about 2 min 20 s: 7 of 7 steps to make",
        "  build  base       not in the store  about 20 s",
    ]
    assert cli.json("bake", "--recipe", "demo", "--version", "1", "--dry-run")["expected_s"] == 140


WHOLE = (("--verify",), ("--cve-gate",), ("--boot-test",), ("--output", "raw"), ("--record",))


@pytest.mark.parametrize("whole", WHOLE, ids=" ".join)
@pytest.mark.parametrize(
    "less", [("--only", "host"), ("--until", "host"), ("--dry-run",), ("--explain",)], ids=" ".join
)
def test_an_option_that_would_do_nothing_is_refused(cli, settings, whole, less) -> None:
    code, out, err = cli("bake", "--recipe", "demo", *whole, *less)
    assert (code, out) == (2, "")
    assert f"{whole[0]} and {less[0]} do not go together" in err


@pytest.mark.parametrize("part", ["--only", "--until"])
def test_a_version_of_layers_alone_is_refused(cli, settings, part) -> None:
    code, out, err = cli("bake", "--recipe", "demo", part, "host", "--version", "1")
    assert (code, out) == (2, "")
    assert f"--version and {part} do not go together: {part} publishes nothing" in err


@pytest.mark.parametrize("flag", ["--dry-run", "--explain"])
def test_the_plan_is_of_the_steps_that_were_chosen(cli, settings, flag) -> None:
    def plan(*args: str) -> dict[str, str]:
        steps = cli.json("bake", "--recipe", "demo", flag, *args)["steps"]
        return {step["name"]: step["reason"] for step in steps}

    assert list(plan()) == ["base", "initrd", "installer", "host", "app", "tool", "top"]
    assert list(plan("--only", "tool")) == ["base", "host", "tool"]
    assert list(plan("--until", "tool")) == ["base", "host", "app", "tool"]
    assert plan()["base"] == "not in the store"
    assert plan("--from-scratch")["base"] == "from scratch"
    assert plan("--from-scratch", "--only", "tool")["base"] == "not in the store"
    code, _, err = cli("bake", "--recipe", "demo", flag, "--only", "ghost")
    assert (code, "recipe demo has no layer ghost" in err) == (2, True)


def test_a_bake_without_a_lock_says_how_to_make_one(cli, settings) -> None:
    (settings.project / "manifests/images/demo.lock.json").unlink()
    for command in (("bake", "--recipe", "demo", "--version", "1"), ("lock", "--recipe", "demo", "--check")):
        code, out, err = cli(*command)
        assert (code, out) == (errors.NotFound.exit_code, "")
        assert "recipe demo is not locked yet" in err
        assert "qtrade lock --recipe demo" in err


def test_a_check_of_a_lock_is_one_json_document(cli, settings) -> None:
    report = cli.json("lock", "--recipe", "demo", "--check")
    assert (report["done"], report["packages"], report["changes"]) == ("checked", 5, [])
    code, out, _ = cli("lock", "--recipe", "demo", "--check")
    assert code == 0
    assert out.startswith("checked demo: 5 packages")


def test_the_plan_of_a_flash_is_one_json_document(cli, settings) -> None:
    image = publish_image(settings)
    plan = cli.json("flash", "--host", "rpc-1", "--dry-run")
    assert (plan["host"], plan["image"], plan["door"]) == ("rpc-1", image.id, "pxe")
    assert [step["state"] for step in plan["steps"]][-1] == "COMMITTED"
    assert not (settings.state_dir / "flashes").exists()


def test_the_plan_of_a_flash_for_people_is_on_stdout_and_remarks_are_not(cli, settings) -> None:
    publish_image(settings)
    code, out, err = cli("flash", "--host", "rpc-1", "--dry-run")
    assert code == 0
    assert out.startswith("flash rpc-1 (development) with demo 0.1.0")
    assert err == "door in_place is closed: the host runs no agent that answers\n"


def test_lists_are_json_documents(cli, settings) -> None:
    image = publish_image(settings)
    (listed,) = cli.json("images", "list", "--recipe", "demo")["images"]
    assert (listed["recipe"], listed["version"], listed["id"]) == ("demo", "0.1.0", image.id)
    assert [host["name"] for host in cli.json("hosts", "list")["hosts"]] == ["rpc-1"]
    _, out, _ = cli("images", "show", "0.1.0", "--recipe", "demo")
    assert json.loads(out)["id"] == image.id


def test_images_are_listed_with_channels_hosts_and_stand_ins(cli, settings) -> None:
    image, other = publish_image(settings), publish_image(settings, version="0.2.0-rc1", name="edge", components=())
    store = open_store(settings)
    store.move_channel("demo", "staging", ChannelPointer("0.1.0", image.id, 1), None)
    store.set_host_images("rpc-1", [image.id])
    size = sum(image.blobs().values())
    assert cli.json("images", "list")["images"] == [
        {
            "recipe": "demo",
            "version": "0.1.0",
            "id": image.id,
            "size_bytes": size,
            "standins": ["agent"],
            "channels": ["staging"],
            "hosts": ["rpc-1"],
            "blocked": "",
        },
        {
            "recipe": "edge",
            "version": "0.2.0-rc1",
            "id": other.id,
            "size_bytes": size,
            "standins": [],
            "channels": [],
            "hosts": ["rpc-1"],
            "blocked": "",
        },
    ]
    code, out, _ = cli("images", "list", "--recipe", "demo")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["recipe", "version", "id", "MiB", "channels", "hosts", "stand-ins"],
        ["demo", "0.1.0", image.id[:12], f"{size / 2**20:.1f}", "staging", "rpc-1", "agent"],
    ]


def make_garbage(settings: Settings) -> Path:
    """Publish a version, and leave a blob that nothing needs for two days."""
    publish_image(settings)
    path = settings.store / "blobs" / open_store(settings).put_document(b"lonely" * 100)
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    return path


def test_a_collection_is_shown_asked_for_and_done(cli, settings, monkeypatch) -> None:
    path = make_garbage(settings)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    shown = cli.json("images", "gc", "--dry-run")
    assert (shown["blobs"], shown["size"], shown["deleted"]) == ([path.name], 600, False)
    code, out, err = cli("images", "gc")
    assert (code, out) == (2, "")
    assert "nobody can be asked" in err
    assert "1 blobs" in err
    assert path.exists()
    code, out, _ = cli("images", "gc", "--yes")
    assert (code, out) == (0, "deleted: 1 blobs, 0 records, 0 attestations; 0.0 MiB\n")
    assert not path.exists()
    assert cli("images", "gc") == (0, "deleted: 0 blobs, 0 records, 0 attestations; 0.0 MiB\n", "")
    assert open_store(settings).versions("demo") == ("0.1.0",)


def test_an_interrupt_says_how_to_go_on(tmp_path) -> None:
    # A named pipe that nobody writes to stands in for a long step.
    project = make_settings(tmp_path).project
    pipe = project / "manifests/images/demo.yaml"
    os.mkfifo(pipe)
    command = subprocess.Popen(
        [QTRADE, "bake", "--recipe", "demo", "--version", "1"],
        env={**os.environ, "QTRADE_PROJECT": str(project), "QTRADE_STATE_DIR": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run that was started in the background ignores interrupts, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - this process has no threads
    )
    writer = open_when_read(pipe)
    out, err = interrupt(command)
    os.close(writer)
    assert (command.returncode, out) == (130, "")
    assert err == "interrupted; run the same command again to go on\n"


def interrupt(command: subprocess.Popen[str]) -> tuple[str, str]:
    """Interrupt as a person does, once more if nothing happens: an interrupt inside a finaliser is lost by the interpreter."""
    for _ in range(20):
        command.send_signal(signal.SIGINT)
        try:
            return command.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            continue
    command.kill()
    return command.communicate()


def open_when_read(pipe: Path) -> int:
    """Return the pipe's end for writing once somebody reads from it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    "words", [("export", "1.0", "--output", "vmdk"), ("test", "1.0", "--firmware", "coreboot")], ids=" ".join
)
def test_unknown_form_or_firmware_is_refused_with_those_that_there_are(cli, settings, words) -> None:
    code, out, err = cli("images", *words)
    assert (code, out) == (2, "")
    assert words[-1] in err
    assert ("raw, qcow2, netboot" in err) or ("bios, uefi" in err)
