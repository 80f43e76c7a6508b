"""What agave promises."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

VALIDATOR = "/opt/agave/current/bin/agave-validator"
SHOW = "/usr/lib/qtrade/agave/validator.sh --show"
UNIT = "/usr/lib/systemd/system/agave-validator.service"
# Flags that upstream hides are shown with this, those that it deprecated too.
HELP = f"env SOLANA_NO_HIDDEN_CLI_ARGS=1 {VALIDATOR} --help"
LIMITS = [
    "User=sol",
    "LimitNOFILE=1000000",
    "LimitMEMLOCK=2000000000",
    "LogRateLimitIntervalSec=0",
    "OOMScoreAdjust=-500",
]
GUARDS = [
    "RequiresMountsFor=/mnt/ledger /mnt/accounts /mnt/snapshots",
    "AssertPathIsMountPoint=/mnt/ledger",
    "StartLimitIntervalSec=2h",
    "StartLimitBurst=5",
    "RestartPreventExitStatus=78",
]
CAPABILITIES = [
    f"{name}=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_PERFMON" for name in ("AmbientCapabilities", "CapabilityBoundingSet")
]
# Services that a host can do without for a while; their units are other roles'.
LOST_FIRST = ("qtrade-client", "datadog-agent", "otelcol-contrib")


def uses_xdp(xdp: dict[str, Any], command: list[str]) -> bool:
    """Say whether a command line has XDP on; `xdp` is what start.json says of the version: on unless turned off, or only with cores."""
    return xdp["off"] not in command if "off" in xdp else xdp["cpu_cores"] in command


def read_json(host: Host, path: str) -> Any:
    """Return a JSON file."""
    return json.loads(host.file(path).content_string)


def read_unit(host: Host) -> list[str]:
    """Return the lines of the unit."""
    return host.file(UNIT).content_string.splitlines()


def read_command(host: Host) -> list[str]:
    """Return the command line that the unit would start with the config that is there."""
    found = json.loads(host.check_output(SHOW))["command"]
    return [str(word) for word in found]


def knows(helped: str, flag: str) -> bool:
    """Say whether a help text lists a flag."""
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", helped) is not None


@pytest.mark.layer
@pytest.mark.booted
def test_current_is_the_version_that_was_built(host: Host) -> None:
    version = host.check_output(f"{VALIDATOR} --version").split()[1]
    assert host.check_output("readlink /opt/agave/current") == version
    assert yaml.safe_load(host.file("/opt/agave/current/version.yml").content_string)["channel"] == f"v{version}"
    assert read_json(host, "/usr/lib/qtrade/agave/start.json")["version"] == version


@pytest.mark.layer
@pytest.mark.parametrize("name", ["agave/validator.sh", "agave/identity.sh", "drain.d/50-agave"])
def test_script_is_executable_and_parses(host: Host, name: str) -> None:
    path = f"/usr/lib/qtrade/{name}"
    assert host.file(path).mode == 0o755
    assert host.run(f"sh -n {path}").succeeded
    assert (
        len([line for line in host.file(path).content_string.splitlines() if line.lstrip()[:2] not in ("", "--")]) <= 10
    )


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("line", [*LIMITS, *GUARDS, *CAPABILITIES])
def test_unit_says(host: Host, line: str) -> None:
    assert line in read_unit(host)


@pytest.mark.layer
def test_systemd_takes_the_unit(host: Host) -> None:
    done = host.run(f"systemd-analyze verify --man=no --recursive-errors=no {UNIT}")
    assert [line for line in (done.stdout + done.stderr).splitlines() if "agave" in line] == []


@pytest.mark.layer
def test_stop_asks_the_validator_and_ends_in_time(host: Host) -> None:
    unit = read_unit(host)
    stop = next(line for line in unit if line.startswith("ExecStop="))
    asked, whole = (
        re.search(r"timeout (\d+) .* exit --force$", stop),
        next(x for x in unit if x.startswith("TimeoutStopSec=")),
    )
    assert asked is not None
    assert int(asked[1]) < int(whole.split("=")[1])
    # A push waits 180 s for a restart; after an exit that hangs, as long again is for the end by a signal and the start.
    assert int(asked[1]) * 2 <= 180
    assert any(re.fullmatch(r"ExecStopPost=/usr/lib/qtrade/agave/save_state.py [1-9]\d*", line) for line in unit)


@pytest.mark.layer
def test_the_agent_drains_by_the_unit(host: Host) -> None:
    assert host.file("/usr/lib/qtrade/drain.d/50-agave").contains(
        '^exec /usr/lib/qtrade/bare_metal/drain-unit agave-validator.service "$@"$'
    )


@pytest.mark.layer
def test_unit_is_enabled(host: Host) -> None:
    assert host.check_output("systemctl is-enabled agave-validator.service") == "enabled"


@pytest.mark.layer
def test_validator_knows_every_flag_that_may_be_passed(host: Host) -> None:
    helped = host.check_output(HELP)
    used = read_json(host, "/usr/lib/qtrade/agave/start.json")["used"]
    baked = [word for word in read_command(host) if word.startswith("--") and not word.startswith("--ambient-caps")]
    assert {"--identity", "--dynamic-port-range", "--entrypoint"} <= set(used)
    assert [flag for flag in used if not knows(helped, flag)] == []
    assert set(baked[baked.index("--identity") :]) <= set(used)
    assert not knows(helped, "--no-such-flag")


@pytest.mark.layer
def test_validator_parses_the_baked_command_line(host: Host) -> None:
    """A flag without its value, or a value without a flag, ends it before anything else; the missing socket comes later."""
    words = read_command(host)
    command = " ".join(f"'{word}'" for word in words[words.index(VALIDATOR) :])
    done = host.run(f"{command} contact-info")
    assert done.failed
    assert not re.search(r"(?i)found argument|unexpected argument|requires a value|^usage", done.stderr, re.MULTILINE)


@pytest.mark.layer
def test_unknown_flag_is_refused(host: Host) -> None:
    assert host.run(f"{VALIDATOR} --tpu-coalesce-ms 5 contact-info").failed


@pytest.mark.layer
def test_without_config_the_start_is_on_loopback_unstaked_and_without_xdp(host: Host) -> None:
    words = read_command(host)
    assert words[words.index("--identity") + 1] == "/var/lib/agave/identity.json"
    assert "--private-rpc" in words
    assert "--rpc-bind-address" not in words
    assert "--authorized-voter" not in words
    assert words[0] == "/usr/bin/setpriv"


@pytest.mark.layer
def test_flags_follow_the_interfaces(host: Host) -> None:
    words = read_command(host)
    declared = read_json(host, "/usr/share/qtrade/interfaces.d/agave.json")["interfaces"]
    for one in declared:
        if "flag" in one:
            value = f"{one['first']}-{one['end']}" if "first" in one else str(one["port"])
            assert words[words.index(one["flag"]) + 1] == value
    assert {one["exposure"] for one in declared} <= {"loopback", "private", "allow-list", "public"}
    assert {one["name"] for one in declared} >= {"json-rpc", "websocket", "gossip", "dynamic", "admin"}


@pytest.mark.layer
def test_only_gossip_and_its_range_are_public(host: Host) -> None:
    declared = read_json(host, "/usr/share/qtrade/interfaces.d/agave.json")["interfaces"]
    assert {one["name"] for one in declared if one["exposure"] == "public"} == {"gossip", "dynamic"}
    assert {one["bind"] for one in declared if one["exposure"] in ("loopback", "allow-list")} == {"127.0.0.1"}


@pytest.mark.layer
def test_start_knows_whose_data_it_takes(host: Host) -> None:
    table = read_json(host, "/usr/lib/qtrade/agave/start.json")
    assert table["minor"] in table["data_of"]
    assert len(table["data_of"]) == 3
    ask = (
        "import runpy, sys; s = runpy.run_path('/usr/lib/qtrade/agave/start.py'); "
        "t = s['json'].loads(s['TABLE'].read_text()); s['check_written'](sys.argv[1], t, {})"
    )
    assert host.run(f'python3 -IBc "{ask}" {table["version"]}').succeeded
    refused = host.run(f'python3 -IBc "{ask}" 1.18.26')
    assert refused.failed
    assert "the ledger was written by Agave 1.18.26" in refused.stderr


@pytest.mark.layer
def test_log_rotation_parses(host: Host) -> None:
    done = host.run("logrotate --debug --state /dev/null /etc/logrotate.d/agave")
    assert done.succeeded
    assert "error" not in done.stderr.lower()


@pytest.mark.layer
def test_no_keypair_is_baked(host: Host) -> None:
    assert host.run("ls /var/lib/agave/*.json /etc/agave/*.json").failed


@pytest.mark.layer
def test_readiness_says_no_where_nothing_runs(host: Host) -> None:
    done = host.run("qtrade-agave-ready")
    assert done.exit_status == 1
    assert json.loads(done.stdout)["ready"] is False


@pytest.mark.host
def test_validator_is_ready(host: Host) -> None:
    done = host.run("qtrade-agave-ready --wait 120 --interval 2")
    assert (done.exit_status, json.loads(done.stdout)["reasons"]) == (0, [])


@pytest.mark.host
def test_its_lag_is_known_where_references_are_named(host: Host) -> None:
    references = read_json(host, "/run/qtrade/state/config/current/agave/ready.json")["reference_rpcs"]
    if not references:
        pytest.skip("the host's config names no reference RPC: nobody but the validator itself says how far it is")
    assert isinstance(json.loads(host.run("qtrade-agave-ready").stdout)["lag"], int)


@pytest.mark.host
def test_it_runs_on_no_cpu_of_the_client(host: Host) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value agave-validator.service")
    shown = json.loads(host.check_output(f"sudo -n -u sol {SHOW}"))["cpus"]
    allowed = next(
        line.split()[1]
        for line in host.file(f"/proc/{pid}/status").content_string.splitlines()
        if line.startswith("Cpus_allowed_list:")
    )
    spans = [[int(number) for number in part.split("-")] for part in allowed.split(",")]
    assert [cpu for span in spans for cpu in range(span[0], span[-1] + 1)] == shown


@pytest.mark.host
def test_the_ledger_says_who_writes_it(host: Host) -> None:
    status = json.loads(host.check_output("sudo -n /usr/bin/qtrade-agent status"))
    assert status["data"]["agave"] == read_json(host, "/usr/lib/qtrade/agave/start.json")["version"]


@pytest.mark.host
def test_slots_advance(host: Host) -> None:
    first = json.loads(host.check_output("qtrade-agave-ready"))["slot"]
    host.run("sleep 2")
    assert json.loads(host.check_output("qtrade-agave-ready"))["slot"] > first


@pytest.mark.host
def test_validator_listens_exactly_where_the_table_says(host: Host) -> None:
    """Not the plugin's ports: they are declared by its role; it runs in the same process."""
    pid = host.check_output("systemctl show --property=MainPID --value agave-validator.service")
    declared = read_json(host, "/usr/share/qtrade/interfaces.d/agave.json")["interfaces"]
    bind = read_json(host, "/run/qtrade/state/config/current/agave/ready.json")["rpc_bind"]
    others = [
        path
        for path in host.check_output("ls -d /usr/share/qtrade/interfaces.d/*.json").split()
        if "/agave." not in path
    ]
    foreign = {one["port"] for path in others for one in read_json(host, path)["interfaces"] if "port" in one}
    wanted, span = set(), range(0)
    for one in declared:
        if "first" in one:
            span = range(one["first"], one["end"])
        elif "port" in one:
            wanted.add(f"{bind if one.get('bind_value') else one['bind']}:{one['port']}")
    lines = [line.split() for line in host.check_output("sudo -n /usr/bin/ss -Hlntup").splitlines()]
    found = {words[4] for words in lines if f"pid={pid}," in words[-1]}
    ports = {address: int(address.rsplit(":", 1)[1]) for address in found}
    own = {address for address in found if ports[address] not in foreign and ports[address] not in span}
    gossip = next(one["port"] for one in declared if one["name"] == "gossip")
    assert own | {f"0.0.0.0:{gossip}"} == wanted
    assert f"0.0.0.0:{gossip}" in found
    admin = next(one["path"] for one in declared if one["name"] == "admin")
    assert f" {admin} " in host.check_output("ss -Hlx")


@pytest.mark.host
def test_process_has_the_limits_and_no_capability_that_it_does_not_need(host: Host) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value agave-validator.service")
    limits = host.check_output(f"cat /proc/{pid}/limits")
    assert any(line.startswith("Max open files") and "1000000" in line for line in limits.splitlines())
    assert any(line.startswith("Max locked memory") and "2000000000" in line for line in limits.splitlines())
    status = dict(
        line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines() if ":\t" in line
    )
    command = host.check_output(f"cat /proc/{pid}/cmdline").split("\0")
    has_xdp = uses_xdp(read_json(host, "/usr/lib/qtrade/agave/start.json")["xdp"], command)
    needed = (1 << 12) | (1 << 13) if has_xdp else 0
    assert int(status["CapEff"], 16) & ((1 << 12) | (1 << 13)) == needed
    if not has_xdp:
        assert int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.host
def test_where_memory_runs_out_the_validator_goes_last(host: Host) -> None:
    """A share of memory counts up to 1000 points."""
    points = {}
    for unit in ("agave-validator", *LOST_FIRST):
        pid = host.check_output(f"systemctl show --property=MainPID --value {unit}.service")
        if pid != "0":
            points[unit] = int(host.file(f"/proc/{pid}/oom_score_adj").content_string)
    validator = points.pop("agave-validator")
    assert validator == -500
    if not points:
        pytest.skip("nothing that goes first runs: this host was sent no secrets")
    assert {unit: value for unit, value in points.items() if value < validator + 1000} == {}
