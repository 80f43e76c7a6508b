"""What of a state directory may go, and that what is in use stays."""

import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from bake.lock.document import Lock, digest_packages
from flash.journal import Journal
from flash.rollout.journal import journal_of
from flash.rollout.progress import Event
from flash.states import State
from qtrade.errors import BadInput
from qtrade.upkeep import collect
from qtrade.upkeep.machine_checks import mounts_below
from qtrade.upkeep.old_state import Item, Kept, Kind, Limits, decide
from qtrade.upkeep.state_items import find_items
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings
from tests.fakes.rollout.fleet import make_members, make_plan

pytestmark = pytest.mark.unit

DAY_S = 86400.0
ALL = Limits(days=0, flashes=1, failed_days=0, grace_s=0)


def item(kind, days, *, of="rpc-1", needed="") -> Item:
    return Item(kind, of, (f"{kind}/{of}/{days}",), 100, days * DAY_S, needed)


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path)


def put(settings, name: str, *, days: float = 200.0, content: str = "x" * 5000):
    path = settings.state_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    at = time.time() - days * DAY_S
    for one in (path, *path.parents):
        if one == settings.state_dir:
            break
        os.utime(one, (at, at))
    return path


def gone(settings, limits=ALL) -> list[str]:
    return sorted(path for one in collect.plan(settings, limits).gone for path in one.paths)


def reasons(settings, limits=ALL) -> dict[str, str]:
    return {one.item.paths[0]: one.reason for one in collect.plan(settings, limits).kept}


def test_the_last_flashes_of_each_host_stay_whatever_their_age() -> None:
    old = [item(Kind.FLASHES, days) for days in (100, 200, 300, 400)]
    verdict = decide([*old, item(Kind.FLASHES, 500, of="rpc-2")], Limits(flashes=2))
    assert [one.paths[0] for one in verdict.gone] == ["flashes/rpc-1/300", "flashes/rpc-1/400"]
    assert verdict.size == 200
    assert {one.item.of: one.reason for one in verdict.kept} == {
        "rpc-1": "one of the last 2 of its host",
        "rpc-2": "one of the last 2 of its host",
    }


@pytest.mark.parametrize(
    ("kind", "days", "reason"),
    [
        (Kind.LOGS, 0.5, "younger than a day"),
        (Kind.LOGS, 89, "younger than 90 days"),
        (Kind.LOGS, 91, None),
        (Kind.OUTPUTS, 89, "younger than 90 days"),
        (Kind.OUTPUTS, 91, None),
        (Kind.FAILED, 6, "younger than 7 days"),
        (Kind.FAILED, 8, None),
        (Kind.PARTIAL, 8, None),
        (Kind.WORK, 6, "younger than 7 days"),
        (Kind.WORK, 8, None),
        (Kind.TOOLS, 0.5, "younger than a day"),
        (Kind.TOOLS, 2, None),
    ],
)
def test_how_long_each_kind_stays(kind, days, reason) -> None:
    one = item(kind, days)
    verdict = decide([one], Limits())
    assert (verdict.gone, verdict.kept) == (((), (Kept(one, reason),)) if reason else ((one,), ()))


def test_what_somebody_needs_stays_whatever_its_age() -> None:
    one = item(Kind.TOOLS, 1000, needed="lab.lock.json names it")
    assert decide([one], ALL).kept == (Kept(one, "lab.lock.json names it"),)


def test_a_hosts_newest_and_its_open_flashes_stay_with_their_consoles(settings) -> None:
    folder = settings.state_dir / "flashes/rpc-1"
    for stamp, state in (("1", State.COMMITTED), ("2", State.ARMED), ("3", State.COMMITTED), ("4", State.ROLLED_BACK)):
        Journal(folder / f"{stamp}.jsonl").write(state, {})
        put(settings, f"flashes/rpc-1/{stamp}.console")
    put(settings, "flashes/rpc-1/0-decommission.json")
    for path in folder.iterdir():
        os.utime(path, (1.0, 1.0))
    (folder / "2b.jsonl").write_text("no journal\n")
    assert gone(settings) == [
        "flashes/rpc-1/0-decommission.json",
        "flashes/rpc-1/1.console",
        "flashes/rpc-1/1.jsonl",
        "flashes/rpc-1/3.console",
        "flashes/rpc-1/3.jsonl",
    ]
    assert reasons(settings) == {
        "flashes/rpc-1/2.console": "a flash that has not ended",
        "flashes/rpc-1/2b.jsonl": "a journal that cannot be read",
        "flashes/rpc-1/4.console": "the host's last flash",
    }


def test_a_rollout_goes_with_its_samples_and_its_hosts_words(settings) -> None:
    plan = make_plan(make_members(2))
    for name, ends in (("1", True), ("2", False), ("3", True)):
        journal = journal_of(settings, "staging", name)
        progress = journal.begin(plan, 1.0)
        if ends:
            journal.write(progress, [(Event.ENDED, {"phase": "DONE"})], 2.0)
        put(settings, f"rollouts/staging/{name}.samples/wave-1.jsonl")
        put(settings, f"rollouts/staging/{name}.hosts/host-0001.log")
        os.utime(journal.path, (1.0, 1.0))
    found = [f"rollouts/staging/1.{ending}" for ending in ("hosts", "jsonl", "samples")]
    assert gone(settings) == found
    assert reasons(settings) == {
        "rollouts/staging/2.hosts": "a rollout that has not ended",
        "rollouts/staging/3.hosts": "its last rollout",
    }
    collect.collect(settings, ALL, collect.plan(settings, ALL))
    assert not [path for path in found if (settings.state_dir / path).exists()]
    assert (settings.state_dir / "rollouts/staging/2.samples/wave-1.jsonl").exists()


def test_only_what_is_named_here_ever_goes(settings) -> None:
    names = ("keys/root.key", "known_hosts/rpc-1", "leases/rpc-1", "access/rpc-1.jsonl", "generations/rpc-1.json")
    names += ("sent/rpc-1.json", "identities/one.jsonl", "cache/blobs/a/b", "scans/a/b.json", "store/blobs/a", "mine")
    names += ("locks/x", "lab/lab-1/os.raw", "store-cache/a", "drift/development.json", "last-bake/lab.json")
    for name in names:
        put(settings, name)
    put(settings, "logs/layer-a.log")
    put(settings, "outputs/lab/0.1.0/disk.raw")
    put(settings, "failed/agave/key")
    put(settings, "cache/partial/a")
    assert gone(settings) == ["cache/partial/a", "failed/agave", "logs/layer-a.log", "outputs/lab/0.1.0"]


def test_a_folder_that_a_command_works_in_stays(settings) -> None:
    for name in ("work/layer-a/x", "boot-test/x", "lock-work/x", "shell/agave/x"):
        put(settings, name)
    assert gone(settings) == ["boot-test", "lock-work", "shell/agave", "work"]
    with (settings.state_dir / "bake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert gone(settings) == ["boot-test", "lock-work", "shell/agave"]
        assert reasons(settings)["work"] == "a command works there"
    assert "work" in gone(settings)


def test_a_command_that_begins_between_the_plan_and_the_deed_is_left_alone(settings) -> None:
    path = put(settings, "work/layer-a/x")
    agreed = collect.plan(settings, ALL)
    with (settings.state_dir / "bake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = collect.collect(settings, ALL, agreed)
        assert (document.gone, path.exists()) == ((), True)
    assert [one.paths for one in collect.collect(settings, ALL, agreed).gone] == [("work",)]
    assert not (settings.state_dir / "work").exists()


class Tools:
    """Tools roots: one that commands use, one that a lock names, one that a program runs from, one that nobody needs."""

    def __init__(self, settings) -> None:
        lock = Lock(
            recipe="demo",
            suite="trixie",
            base=(),
            layers={},
            builders={},
            tools=(),
            components={},
            collections={},
            wants={},
        )
        self.locked = f"tools-{digest_packages(lock.tools)[:16]}"
        for name in ("tools-used", self.locked, "tools-run", "tools-old", "tools.new", "packer"):
            put(settings, f"roots/{name}/usr/bin/x")
        roots = settings.state_dir / "roots"
        (roots / "tools").symlink_to("tools-used")
        locks = settings.project / "manifests/images"
        locks.mkdir(parents=True, exist_ok=True)
        self.lock_file = locks / "demo.lock.json"
        self.lock_file.write_text(lock.model_dump_json())
        self.run = roots / "tools-run"


def test_a_tools_root_stays_while_a_lock_or_a_program_needs_it(settings) -> None:
    tools = Tools(settings)
    command = [sys.executable, "-c", "import time; time.sleep(60)", f"--tools={tools.run.resolve()}"]
    with subprocess.Popen(command) as child:
        try:
            assert gone(settings) == ["roots/tools-old", "roots/tools.new"]
            assert reasons(settings) == {
                "roots/tools-used": "what commands without a lock use",
                f"roots/{tools.locked}": "demo.lock.json names it",
                "roots/tools-run": "a program runs from it",
            }
        finally:
            child.kill()
    assert gone(settings) == ["roots/tools-old", "roots/tools-run", "roots/tools.new"]
    document = collect.collect(settings, ALL, collect.plan(settings, ALL))
    assert sorted(path.name for path in (settings.state_dir / "roots").iterdir()) == sorted(
        ["tools", "tools-used", tools.locked, "packer", "tools.lock"]
    )
    assert (document.size, document.deleted) == (3 * 8192, True)


def test_a_lock_that_cannot_be_read_stops_all(settings) -> None:
    tools = Tools(settings)
    tools.lock_file.write_text("{")
    with pytest.raises(BadInput, match=r"demo\.lock\.json"):
        collect.plan(settings, ALL)


def test_what_others_link_to_frees_nothing(settings) -> None:
    path = put(settings, "outputs/lab/0.1.0/a", content="x" * 8192)
    assert find_items(settings)[0].size == 8192
    (settings.state_dir / "other").hardlink_to(path)
    assert find_items(settings)[0].size == 0


def test_mounts_are_found_by_the_systems_own_table(tmp_path) -> None:
    state = tmp_path / "with blank"
    state.mkdir()
    real = str(state.resolve()).replace(" ", "\\040")
    lines = [f"1 1 0:1 / {target} rw - tmpfs none rw" for target in (real, f"{real}/layer-a", "/elsewhere")]
    assert mounts_below(state, "\n".join(lines)) == (state / "layer-a",)


def test_the_command_shows_first_and_deletes_after_a_yes(settings, monkeypatch, capsys) -> None:
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(settings.state_dir))
    path = put(settings, "logs/layer-a.log", content="x" * 8192)
    run = Cli(monkeypatch, capsys)
    shown = run.json("gc", "--dry-run")
    assert (shown["deleted"], shown["size"], [one["paths"] for one in shown["gone"]]) == (
        False,
        8192,
        [["logs/layer-a.log"]],
    )
    assert path.exists()
    code, out, err = run("gc")
    assert (code, out) == (2, "")
    assert "nobody can be asked" in err
    assert path.exists()
    code, out, _ = run("gc", "--yes", "--json")
    assert (code, json.loads(out)["deleted"], path.exists()) == (0, True, False)
    assert run("gc") == (0, "deleted: 0 things, 0.0 MiB; 0 stay\n", "")
