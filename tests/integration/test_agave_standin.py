"""The stand-in validator hurts where the original does, and the unit's stop ends it by its deadline. Root; each in a network of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2.nativetypes import NativeEnvironment

from tests.unit.roles.agave.conftest import PROGRAMS, PROJECT, ROLE, install_start, load_module

pytestmark = pytest.mark.integration

SOURCE = PROJECT / "tests/standins/agave"
UNIT = ROLE / "templates/usr/lib/systemd/system/agave-validator.service.j2"
CAPABILITIES = {"net_admin", "net_raw"}
NOBODY = 65534
# Machines that run tests may not be allowed to raise limits: the stand-in is told that they are high.
LAUNCHER = """
import resource, runpy, sys
resource.getrlimit = lambda _: (1 << 62, 1 << 62)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Node:
    """A stand-in of one version with its folders, started the way the unit does it."""

    def __init__(self, folder: Path, version: str = "4.2.1") -> None:
        self.folder = folder
        folder.chmod(0o755)
        shutil.copytree(SOURCE, folder / "agave", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "agave/version.yml").write_text(f"channel: v{version}\n")
        self.program = folder / "agave/bin/agave-validator"
        self.ledger, self.log = folder / "ledger", folder / "log"
        for path in (self.ledger, folder / "accounts", folder / "snapshots"):
            path.mkdir()
            os.chown(path, NOBODY, NOBODY)
        identity = folder / "identity.json"
        subprocess.run([self.program.with_name("solana-keygen"), "new", "--outfile", identity], check=True)
        os.chown(identity, NOBODY, NOBODY)
        self.log.touch()
        os.chown(self.log, NOBODY, NOBODY)
        self.ready = self.ledger / "ready"
        self.flags = [
            "--identity",
            identity,
            "--ledger",
            self.ledger,
            "--accounts",
            folder / "accounts",
            "--log",
            self.log,
        ]
        self.flags += ["--snapshots", folder / "snapshots", "--init-complete-file", self.ready, "--private-rpc"]
        self.flags += ["--dynamic-port-range", "8000-8030", "--gossip-port", "8001", "--no-os-network-limits-test"]
        self.process: subprocess.Popen[str] | None = None

    def command(self, *flags: object, capabilities: frozenset[str] = frozenset(), has_limits: bool = True) -> list[str]:
        """Return the command of a start as an unprivileged user, with the capabilities alone, in an empty network."""
        held = ",".join(["-all", *(f"+{name}" for name in sorted(capabilities))])
        user = [
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            f"--inh-caps={held}",
            f"--ambient-caps={held}",
        ]
        launcher = ["/usr/bin/python3", "-IBc", LAUNCHER] if has_limits else ["prlimit", "--nofile=1024:1024"]
        words = ["unshare", "--net", *user, "--", *launcher, self.program, *self.flags, *flags]
        return [str(word) for word in words]

    def start(self, *flags: object, environment: dict[str, str] | None = None) -> None:
        given = {**os.environ, **(environment or {})}
        command = self.command(*flags)
        self.process = subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True)
        wait_for(self.ready.exists, lambda: self.process.poll() is None, self.process.stderr.read)

    def refuse(self, *flags: object, **how: object) -> str:
        """Return what the validator says when it does not start."""
        done = subprocess.run(self.command(*flags, **how), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1, done.stderr
        return done.stderr + self.log.read_text()

    def exit(self, *options: str) -> subprocess.CompletedProcess[str]:
        words = [self.program, "--ledger", self.ledger, "exit", *options]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def wait_for(is_done, may_go_on=lambda: True, explain=lambda: "") -> None:
    deadline = time.monotonic() + 30
    while not is_done():
        assert may_go_on(), explain()
        assert time.monotonic() < deadline, "waited 30 s"
        time.sleep(0.05)


@pytest.fixture
def node() -> Iterator[Node]:
    # Not below pytest's own folder: every session of it takes the rights of other users away, and the validator runs as one.
    with tempfile.TemporaryDirectory() as name:
        yield from run_node(Path(name))


def run_node(folder: Path) -> Iterator[Node]:
    """Hand a node out, and end its process whatever the test left of it."""
    made = Node(folder)
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()
    if made.process:
        made.process.wait()
        made.process.stderr.close()


def as_version(node: Node, version: str) -> None:
    (node.folder / "agave/version.yml").write_text(f"channel: v{version}\n")


def test_exit_ends_it_and_waits_for_the_end(node) -> None:
    node.start("--no-xdp", "--no-voting")
    assert node.exit("--force").returncode == 0
    assert node.process.wait(timeout=5) == 0
    assert int((node.ledger / "standin-slot").read_text()) >= 1
    assert node.exit("--force").returncode != 0


def test_it_is_looked_at_through_its_admin_socket(node) -> None:
    node.start("--no-xdp", "--no-voting")
    ask = [node.program, "--ledger", node.ledger]
    assert subprocess.run([*ask, "contact-info"], capture_output=True, text=True, check=True).stdout.startswith(
        "Identity"
    )
    listed = subprocess.run([*ask, "plugin", "list"], capture_output=True, text=True, check=True).stdout
    assert listed == "There are currently no plugins loaded\n"
    assert subprocess.run([*ask, "plugin"], capture_output=True, check=False).returncode != 0
    watched = subprocess.run(["timeout", "3", *ask, "monitor"], capture_output=True, text=True, check=False)
    assert watched.returncode == 124
    assert re.fullmatch(r"(Processed Slot: \d+\n)+", watched.stdout)


def read_stop(timeout_s: int, node: Node) -> list[str]:
    """Return the command of the unit's ExecStop, for the stand-in's paths."""
    line = re.search(r"^ExecStop=(.*)$", UNIT.read_text(), re.MULTILINE)[1]
    assert "{{ agave_exit_timeout_s }}" in line
    line = line.replace("{{ agave_exit_timeout_s }}", str(timeout_s)).replace(
        "/opt/agave/current/bin/agave-validator", str(node.program)
    )
    return shlex.split(line.replace("/mnt/ledger", str(node.ledger)))


@pytest.mark.parametrize("trigger", ["file", "variable", "entrypoint"])
def test_an_exit_that_hangs_is_ended_by_the_units_deadline(trigger, node) -> None:
    if trigger == "file":
        (node.ledger / "standin-exit-hangs").touch()
    node.start(
        "--no-xdp",
        *(["--entrypoint", "exit-hangs.invalid:8001"] if trigger == "entrypoint" else ["--no-voting"]),
        environment={"AGAVE_STANDIN_EXIT_HANGS": "1"} if trigger == "variable" else {},
    )
    done = subprocess.run(read_stop(2, node), capture_output=True, text=True, check=False, timeout=30)
    # 124 is `timeout`'s: the request was taken, the end did not come.
    assert (done.returncode, done.stdout) == (124, "Exit request sent\n")
    assert node.process.poll() is None
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(timeout=5) == -signal.SIGTERM


def test_the_deadline_is_inside_the_units_own(node) -> None:
    """An exit that hangs is given up, and the validator ended by a signal, before systemd would kill both."""
    exit_s = 3
    text = UNIT.read_text()
    whole = re.search(r"^TimeoutStopSec=\{\{ (.+) \}\}$", text, re.MULTILINE)
    assert whole is not None
    whole_s = NativeEnvironment().from_string(f"{{{{ {whole[1]} }}}}").render(agave_exit_timeout_s=exit_s)
    (node.ledger / "standin-exit-hangs").touch()
    node.start("--no-xdp", "--no-voting")
    begun = time.monotonic()
    done = subprocess.run(read_stop(exit_s, node), capture_output=True, check=False, timeout=whole_s)
    took = time.monotonic() - begun
    assert done.returncode == 124, "the exit did not hang, so nothing was shown"
    assert exit_s <= took < whole_s
    # What systemd does next, in the time that is left.
    node.process.terminate()
    assert node.process.wait(timeout=whole_s - took) == -signal.SIGTERM


def test_usr1_opens_the_log_anew(node) -> None:
    node.start("--no-xdp", "--no-voting")
    node.log.rename(node.folder / "log.1")
    # The user may not write to the folder itself, as with /var/log/agave's parent; logrotate would make the file.
    node.log.touch()
    os.chown(node.log, NOBODY, NOBODY)
    os.kill(node.process.pid, signal.SIGUSR1)
    (node.ledger / "x").touch()
    opened = Path(f"/proc/{node.process.pid}/fd/1")
    wait_for(lambda: opened.readlink() == node.log)


@pytest.mark.parametrize(
    ("version", "flags", "is_known"),
    [
        ("4.2.1", ["--limit-blockstore-size", "1"], False),
        ("4.3.0", ["--limit-blockstore-size", "1"], True),
        ("4.1.2", ["--no-xdp"], False),
        ("3.1.14", ["--tpu-coalesce-ms", "5"], True),
        ("4.0.3", ["--tpu-coalesce-ms", "5"], False),
        ("4.3.0", ["--tpu-connection-pool-size", "4"], False),
    ],
)
def test_flags_of_other_versions_are_refused(version, flags, is_known, node) -> None:
    as_version(node, version)
    done = subprocess.run(
        [node.program, *flags, "contact-info"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert (f"Found argument '{flags[0]}' which wasn't expected" in done.stderr) != is_known
    forced = {**os.environ, "SOLANA_NO_HIDDEN_CLI_ARGS": "1"}
    helped = subprocess.run(
        [node.program, "--help"], capture_output=True, text=True, check=True, timeout=30, env=forced
    ).stdout
    assert (f"{flags[0]} " in helped or f"{flags[0]}\n" in helped) == is_known


def test_xdp_needs_its_capabilities(node) -> None:
    """On by default from 4.2: without capabilities it does not start, with them it does; zero copy needs two more."""
    assert "XDP needs CAP_NET_ADMIN" in node.refuse("--no-voting")
    more = node.refuse("--no-voting", "--xdp-zero-copy", capabilities=frozenset(CAPABILITIES))
    assert "zero copy CAP_BPF" in more
    as_version(node, "4.1.2")
    assert "XDP needs" in node.refuse("--no-voting", "--xdp-cpu-cores", "1")


def test_xdp_starts_with_its_capabilities(node) -> None:
    node.process = subprocess.Popen(
        node.command("--no-voting", capabilities=frozenset(CAPABILITIES)), stderr=subprocess.PIPE, text=True
    )
    wait_for(node.ready.exists, lambda: node.process.poll() is None, node.process.stderr.read)


@pytest.mark.parametrize(("has_xdp", "held"), [(False, 0), (True, (1 << 12) | (1 << 13))])
def test_the_start_gives_up_the_units_capabilities_where_xdp_is_off(has_xdp, held, node) -> None:
    program = install_start(node.folder, {"xdp": has_xdp})
    for name in ("start.py", "start.json", "validator.json"):
        (node.folder / name).chmod(0o644)
    command = node.command(capabilities=frozenset(CAPABILITIES))
    command = [*command[: command.index("--") + 1], "/usr/bin/python3", *program, "--", "--ledger", str(node.ledger)]
    command += ["--snapshots", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert int(done.stdout.split()[1], 16) == held


def test_limits_are_checked(node) -> None:
    assert "maximum open file descriptor limit" in node.refuse("--no-xdp", "--no-voting", has_limits=False)


def test_the_kernels_limits_are_checked(node) -> None:
    node.flags.remove("--no-os-network-limits-test")
    wanted = {"net.core.rmem_max": 134217728, "net.core.wmem_max": 134217728, "vm.max_map_count": 1000000}
    low = [name for name, value in wanted.items() if int(Path("/proc/sys", name.replace(".", "/")).read_text()) < value]
    if not low:
        pytest.skip("this machine is tuned for Agave")
    # Not in a network of its own, which shows no limits of sockets.
    command = node.command("--no-xdp", "--no-voting")
    done = subprocess.run(command[2:], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, f"OS network limit test failed: {low[0]} is " in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("version", "width", "starts"), [("4.0.3", 25, True), ("4.1.2", 25, False), ("4.2.1", 20, False)]
)
def test_port_range_is_as_wide_as_the_version_needs(version, width, starts, node) -> None:
    as_version(node, version)
    flags = ["--no-voting", *(["--no-xdp"] if version >= "4.2" else [])]
    node.flags[node.flags.index("8000-8030")] = f"8000-{8000 + width}"
    if starts:
        node.start(*flags)
    else:
        assert "Port range is too small" in node.refuse(*flags)


@pytest.mark.parametrize(("version", "kinds"), [("4.2.1", {"tower-1_9"}), ("4.3.0", {"tower-1_9", "vote_history"})])
def test_a_voting_profile_leaves_a_tower_that_the_stop_saves(version, kinds, node) -> None:
    as_version(node, version)
    node.start("--no-xdp", "--tower", node.ledger, "--vote-account", "11111111111111111111111111111111")
    wait_for(lambda: len(list(node.ledger.glob("*-*.bin"))) == len(kinds))
    node.exit("--force")
    files = load_module(PROGRAMS / "save_state.py").read_state(node.ledger)
    assert {name.rsplit("-", 1)[0] for name in files} == kinds
    assert all(re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{40,44}\.bin", name.rsplit("-", 1)[1]) for name in files)


def test_readiness_of_a_running_validator(node) -> None:
    """The check runs in the validator's network, with a second RPC there as the reference."""
    node.start("--no-xdp", "--no-voting")
    text = (PROGRAMS / "ready.py").read_text()
    interfaces, config = node.folder / "interfaces.json", node.folder / "config.json"
    interfaces.write_text(json.dumps({"interfaces": [{"name": "json-rpc", "port": 8899}]}))
    paths = {"/usr/share/qtrade/interfaces.d/agave.json": interfaces, "/run/agave/init-complete": node.ready}
    paths["/run/qtrade/state/config/current/agave/ready.json"] = config
    for old, new in paths.items():
        assert old in text
        text = text.replace(old, str(new))
    program = node.folder / "ready.py"
    program.write_text(text)
    inside = ["nsenter", f"--target={node.process.pid}", "--net", "--"]
    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
    config.write_text(json.dumps({"reference_rpcs": ["http://127.0.0.1:8899"], "max_slot_lag": 5}))
    done = subprocess.run(
        [*inside, "python3", program, "--wait", "20"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["lag"] <= 5
    node.exit("--force")
    done = subprocess.run(["python3", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["ready"]) == (1, False)
