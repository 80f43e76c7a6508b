"""What agave promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

UNIT = "/usr/lib/systemd/system/agave-validator.service"
PROBE = (
    "import json, sys, urllib.request as r; "
    "body = json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': sys.argv[1]}).encode(); "
    "head = {'Content-Type': 'application/json'}; "
    "print(r.urlopen(r.Request('http://127.0.0.1:8899', body, head), timeout=10).read().decode())"
)


def call(host: Host, method: str) -> Any:
    """Return the result of one JSON-RPC call."""
    return json.loads(host.check_output(f'python3 -c "{PROBE}" {method}'))["result"]


def read_unit(host: Host) -> list[str]:
    """Return the lines of the unit."""
    return host.file(UNIT).content_string.splitlines()


@pytest.mark.layer
@pytest.mark.booted
def test_current_is_the_version_that_was_built(host: Host) -> None:
    version = host.check_output("/opt/agave/current/bin/agave-validator --version").split()[1]
    assert host.check_output("readlink /opt/agave/current") == version
    assert yaml.safe_load(host.file("/opt/agave/current/version.yml").content_string)["channel"] == f"v{version}"


@pytest.mark.layer
@pytest.mark.parametrize("path", ["/usr/lib/qtrade/agave/validator.sh", "/usr/lib/qtrade/agave/identity.sh"])
def test_script_is_executable_and_parses(host: Host, path: str) -> None:
    assert host.file(path).mode == 0o755
    assert host.run(f"sh -n {path}").succeeded


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize(
    "line",
    [
        "User=sol",
        "RequiresMountsFor=/mnt/ledger /mnt/accounts /mnt/snapshots",
        "LimitNOFILE=1000000",
        "LimitMEMLOCK=2000000000",
        "LogRateLimitIntervalSec=0",
        "StartLimitBurst=5",
        "TimeoutStopSec=300",
        "AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_PERFMON",
    ],
)
def test_unit_says(host: Host, line: str) -> None:
    assert line in read_unit(host)


@pytest.mark.layer
def test_stop_asks_the_validator_and_has_a_deadline(host: Host) -> None:
    stop = next(line for line in read_unit(host) if line.startswith("ExecStop="))
    assert stop.startswith("ExecStop=/usr/bin/timeout ")
    assert stop.endswith("exit --force")


@pytest.mark.layer
def test_unit_is_enabled(host: Host) -> None:
    assert host.check_output("systemctl is-enabled agave-validator.service") == "enabled"


@pytest.mark.layer
def test_validator_knows_every_baked_flag(host: Host) -> None:
    """An unknown flag ends it before anything else; a missing identity or limit comes later."""
    command = 'sed \'s/^exec .*/printf "%s\\\\n" "$@"/\' /usr/lib/qtrade/agave/validator.sh | sh'
    flags = host.check_output(command).splitlines()
    assert "--no-xdp" in flags
    quoted = " ".join(f"'{flag}'" for flag in flags)
    done = host.run(f"/opt/agave/current/bin/agave-validator {quoted} contact-info")
    assert "unrecognized arguments" not in done.stderr
    assert "unexpected argument" not in done.stderr


@pytest.mark.layer
def test_unknown_flag_is_refused(host: Host) -> None:
    assert host.run("/opt/agave/current/bin/agave-validator --tpu-coalesce-ms 5 contact-info").failed


@pytest.mark.layer
def test_no_keypair_is_baked(host: Host) -> None:
    assert host.run("ls /var/lib/agave/*.json /etc/agave/*.json").failed


@pytest.mark.host
def test_validator_runs_and_listens(host: Host) -> None:
    assert host.service("agave-validator").is_running
    for address in ("tcp://127.0.0.1:8899", "tcp://127.0.0.1:8900", "tcp://0.0.0.0:8001"):
        assert host.socket(address).is_listening
    assert host.file("/run/agave/init-complete").exists


@pytest.mark.host
def test_validator_is_healthy_and_moves(host: Host) -> None:
    assert call(host, "getHealth") == "ok"
    first = call(host, "getSlot")
    host.run("sleep 2")
    assert call(host, "getSlot") > first


@pytest.mark.host
def test_rpc_says_the_baked_version(host: Host) -> None:
    assert call(host, "getVersion")["solana-core"] == host.check_output("readlink /opt/agave/current")


@pytest.mark.host
def test_process_has_the_limits(host: Host) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value agave-validator.service")
    limits = host.check_output(f"cat /proc/{pid}/limits")
    assert any(line.startswith("Max open files") and "1000000" in line for line in limits.splitlines())
    assert any(line.startswith("Max locked memory") and "2000000000" in line for line in limits.splitlines())
