"""What qtrade_client promises."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

PROGRAM = "/opt/qtrade-client/current/bin/qtrade-client"
UNIT = "/usr/lib/systemd/system/qtrade-client.service"
START = "/usr/lib/qtrade/qtrade_client/start.py"
STORE = "/run/qtrade/state/credstore"
CONFIG = "/run/qtrade/state/config/current/qtrade_client/client.toml"
SANDBOX = (
    "User=qtrade-client", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes",
    "PrivateDevices=yes", "PrivateTmp=yes", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "SystemCallFilter=@system-service", "LimitCORE=0", "MemorySwapMax=0",
)  # fmt: skip
# Where a host may hold a stream that is slow to begin: an hour of catching up is not for a spec to wait out.
REACHED_WITHIN_S = 120
NO_TOKEN = "this host was not sent client_token, so the client waits"  # noqa: S105 - what is said of it


def baked(host: Host, name: str) -> Any:
    """Return an argument of the role as the layer was baked with it."""
    return json.loads(host.file("/usr/share/qtrade/arguments.d/qtrade_client.json").content_string)["arguments"][name]


@pytest.mark.layer
@pytest.mark.booted
def test_current_is_the_version_that_was_built(host: Host) -> None:
    version = host.check_output(f"{PROGRAM} --version").split()[1]
    assert host.check_output("readlink /opt/qtrade-client/current") == version


@pytest.mark.layer
def test_program_and_its_starter_are_files_of_root(host: Host) -> None:
    for path, mode in ((PROGRAM, 0o755), (START, 0o644)):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", mode)


@pytest.mark.layer
def test_unit_is_enabled_and_waits_for_its_token_and_its_config(host: Host) -> None:
    assert host.check_output("systemctl is-enabled qtrade-client.service") == "enabled"
    unit = host.file(UNIT).content_string.splitlines()
    assert f"ConditionPathExists={STORE}/client_token" in unit
    assert f"ConditionPathExists={CONFIG}" in unit
    assert f"LoadCredentialEncrypted=client_token:{STORE}/client_token" in unit


@pytest.mark.layer
@pytest.mark.parametrize("line", SANDBOX)
def test_unit_is_sandboxed(host: Host, line: str) -> None:
    assert line in host.file(UNIT).content_string.splitlines()


@pytest.mark.layer
@pytest.mark.parametrize(
    "name", ["MemoryMax", "MemoryHigh", "TasksMax", "LogRateLimitBurst", "StartLimitBurst", "TimeoutStopSec"]
)
def test_unit_has_limits(host: Host, name: str) -> None:
    values = [
        line.partition("=")[2] for line in host.file(UNIT).content_string.splitlines() if line.startswith(f"{name}=")
    ]
    assert len(values) == 1
    assert values[0] not in ("", "infinity", "0")


@pytest.mark.layer
def test_no_secret_comes_by_the_environment(host: Host) -> None:
    names = [
        line.removeprefix("Environment=").partition("=")[0]
        for line in host.file(UNIT).content_string.splitlines()
        if line.startswith("Environment")
    ]
    assert len(names) == 6
    assert not [
        name for name in names if any(word in name for word in ("TOKEN", "KEY", "WALLET", "SECRET", "PASSWORD"))
    ]


@pytest.mark.layer
def test_the_agent_drains_by_the_unit(host: Host) -> None:
    program = host.file("/usr/lib/qtrade/drain.d/40-qtrade-client")
    assert program.mode == 0o755
    assert program.contains('^exec /usr/lib/qtrade/bare_metal/drain-unit qtrade-client.service "$@"$')


@pytest.mark.layer
def test_client_refuses_to_run_without_its_token(host: Host) -> None:
    done = host.run(PROGRAM)
    assert done.failed
    assert "client_token" in done.stderr


@pytest.mark.layer
def test_starter_refuses_a_config_that_cannot_be_meant_and_says_why(host: Host) -> None:
    text = 'mode = "sandbox"'
    run = f"QTRADE_CLIENT_CONFIG=/tmp/client.toml python3 -I -S -B {START} /bin/true"
    done = host.run(f"printf '%s' '{text}' > /tmp/client.toml; {run}; code=$?; rm /tmp/client.toml; exit $code")
    assert done.rc == 78
    assert "mode is 'sandbox', not paper or live" in done.stderr


@pytest.mark.image
def test_starter_finds_what_the_other_roles_declare(host: Host) -> None:
    """A host without a config has stream and JSON-RPC where the image serves them; the unit names the server's socket."""
    declared = {
        one["name"]: one
        for role in ("agave", "geyser", "postgres")
        for one in json.loads(host.file(f"/usr/share/qtrade/interfaces.d/{role}.json").content_string)["interfaces"]
    }
    ask = (
        f"import runpy; s = runpy.run_path('{START}'); places = s['INTERFACES'], s['HOST_CONFIG'];"
        "print(s['find_geyser'](*places), s['find_rpc'](*places))"
    )
    grpc, rpc = declared["grpc"], declared["json-rpc"]
    wanted = f"{grpc['bind']}:{grpc['port']} http://{rpc['bind']}:{rpc['port']}"
    assert host.check_output(f'python3 -I -B -c "{ask}"') == wanted
    unit = host.file(UNIT).content_string.splitlines()
    assert f"Environment=QTRADE_CLIENT_POSTGRES={declared['postgres-socket']['path']}" in unit
    assert f"Environment=QTRADE_CLIENT_HEALTH={baked(host, 'qtrade_client_health_address')}" in unit


@pytest.mark.booted
def test_unit_is_no_failed_one(host: Host) -> None:
    """Without token, config, Postgres or Geyser it waits."""
    assert host.run("systemctl is-failed --quiet qtrade-client.service").failed


def read_health(host: Host) -> dict[str, Any]:
    probe = (
        "import urllib.request as r, urllib.error as e\n"
        f"try: print(r.urlopen('http://{baked(host, 'qtrade_client_health_address')}/healthz', timeout=10).read().decode())\n"
        "except e.HTTPError as error: print(error.read().decode())\n"
        "except OSError as error: print('{}')"
    )
    return dict(json.loads(host.check_output(f'python3 -c "{probe}"')))


def has_token(host: Host) -> bool:
    """Say whether the host was sent the client's token: the store of credentials is root's, the unit looked for it."""
    return host.check_output("systemctl show --property=ConditionResult --value qtrade-client.service") == "yes"


@pytest.mark.host
def test_client_runs_where_it_has_its_token_and_waits_elsewhere(host: Host) -> None:
    state = host.check_output("systemctl show --property=ActiveState --value qtrade-client.service")
    assert state == ("active" if has_token(host) else "inactive")


@pytest.mark.host
def test_client_reaches_postgres_and_geyser(host: Host) -> None:
    if not has_token(host):
        pytest.skip(NO_TOKEN)
    deadline = time.monotonic() + REACHED_WITHIN_S
    while (health := read_health(host)).get("status") != "ok" and time.monotonic() < deadline:
        time.sleep(3)
    status = host.check_output("systemctl show --property=StatusText --value qtrade-client.service")
    assert (health.get("status"), health.get("postgres"), health.get("geyser")) == ("ok", True, True), status


@pytest.mark.host
def test_client_listens_on_loopback_only(host: Host) -> None:
    address = baked(host, "qtrade_client_health_address")
    port = address.rpartition(":")[2]
    found = [line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()]
    assert [one for one in found if one.endswith(f":{port}")] == ([address] if has_token(host) else [])


@pytest.mark.host
def test_starter_has_become_the_client(host: Host) -> None:
    if not has_token(host):
        pytest.skip(NO_TOKEN)
    pid = host.check_output("systemctl show --property=MainPID --value qtrade-client.service")
    user, command = host.check_output(f"ps -o user:20=,args= -p {pid}").split(None, 1)
    assert user == "qtrade-client"
    assert START not in command
    assert PROGRAM in command


@pytest.mark.host
def test_systemd_took_limits_and_watchdog(host: Host) -> None:
    shown = host.check_output(
        "systemctl show qtrade-client.service --property=MemoryMax,MemorySwapMax,LimitCORE,WatchdogUSec,NRestarts"
    )
    values = dict(line.split("=", 1) for line in shown.splitlines())
    assert int(values["MemoryMax"]) > 0
    assert (values["MemorySwapMax"], values["LimitCORE"]) == ("0", "0")
    if has_token(host):  # systemd tells the watchdog of what runs only
        assert (values["WatchdogUSec"] not in ("0", "infinity")) == (baked(host, "qtrade_client_watchdog_s") > 0)


@pytest.mark.host
def test_token_is_for_the_client_only(host: Host) -> None:
    assert host.run("cat /run/credentials/qtrade-client.service/client_token").failed
    assert host.run(f"cat {STORE}/client_token").failed


@pytest.mark.host
def test_config_is_for_the_client_only(host: Host) -> None:
    file = host.file(CONFIG)
    assert (file.user, file.group, file.mode) == ("root", "qtrade-client", 0o640)
