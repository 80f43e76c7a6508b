"""Services that the firewall's allow list opens, asked from outside: JSON-RPC and gRPC answer, in both IP versions, without a reboot."""

import json
import sys
from pathlib import Path

import pytest

from flash.inventory import load_environment, load_host
from flash.secrets import resolve
from qtrade import process
from qtrade.errors import HostError
from tests.e2e.test_bios_host import ALLOWED, GUEST_ADDRESS, GUEST_ADDRESS_V6, Neighbour, namespace, neighbour, scan

__all__ = ["namespace", "neighbour"]
pytestmark = pytest.mark.torture

SERVED = {GUEST_ADDRESS: {22, 8001, 8899, 8900, 10000}, GUEST_ADDRESS_V6: {22, 10000}}
NETWORKS = ["10.0.2.0/24", "fd42:716c:6162::/64"]


def test_a_pushed_allow_list_opens_its_services_without_a_reboot(neighbour: Neighbour, tmp_path: Path) -> None:
    """What the firewall swallows says nothing; what is let through answers. Agave binds JSON-RPC to an IPv4 address only."""
    boot_id = neighbour.sh("cat /proc/sys/kernel/random/boot_id")
    nothing: dict[str, list[int]] = {"open": [], "refused": []}
    for address in SERVED:
        assert neighbour.answers(address, 8899, 8900, 10000) == nothing
    done = neighbour.push(
        agave_rpc_bind="0.0.0.0",
        geyser_listen=["[::]:10000"],
        ufw_solana_rpc_sources=NETWORKS,
        ufw_solana_grpc_sources=NETWORKS,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["units"]) == {"agave-validator.service", "qtrade-firewall.service"}
    for address, ports in SERVED.items():
        found = scan(neighbour.netns, address, *ports)
        assert set(found["open"]) == ports
        let_through = ALLOWED | {8899, 8900, 10000}
        assert set(found["open"]) | set(found["refused"]) <= let_through, "the firewall lets other ports through"
        # Of the thousands of packets of a scan some may get lost; of few none does.
        found = neighbour.answers(address, *sorted(let_through))
        assert found == {"open": sorted(ports), "refused": sorted(let_through - ports)}
        assert ask_slots(neighbour, address, tmp_path)["slots"]
        assert ask_slots(neighbour, address, tmp_path, "--without-token")["refused"]
    assert ask_health(neighbour, GUEST_ADDRESS) == {"jsonrpc": "2.0", "id": 1, "result": "ok"}
    assert neighbour.sh("cat /proc/sys/kernel/random/boot_id") == boot_id


def ask_health(neighbour: Neighbour, address: str) -> dict[str, object]:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getHealth"})
    curl = ["curl", "-sS", "--max-time", "20", "-H", "Content-Type: application/json", "-d", body]
    argv = ["ip", "netns", "exec", neighbour.netns, *curl, f"http://{address}:8899"]
    return json.loads(process.run(argv, timeout_s=60).stdout)


def ask_slots(neighbour: Neighbour, address: str, folder: Path, *options: str) -> dict[str, object]:
    """Subscribe from outside with the host's token, by the role's own program; return what it says."""
    settings = neighbour.rig.settings
    host = load_host(settings, neighbour.rig.name)
    environment, reference = load_environment(settings, host), host.secrets["geyser_x_token"]
    token = resolve(settings, environment, "e2e", reference).decode()
    shown = f"[{address}]" if ":" in address else address
    listen = [{"address": f"{shown}:10000"}]
    config = folder / "stream.json"
    config.write_text(
        json.dumps(
            {
                "grpc": {
                    "listen": listen,
                    "x_token": token,
                }
            }
        )
    )
    program = settings.project / "ansible/roles/geyser/files/usr/lib/qtrade/geyser/stream.py"
    argv = [
        "ip",
        "netns",
        "exec",
        neighbour.netns,
        sys.executable,
        "-B",
        str(program),
        "--config",
        str(config),
        *options,
    ]
    done = process.run(argv, timeout_s=60, check=False)
    told: dict[str, object] = json.loads(done.stdout)
    assert told["ok"] or told["refused"], told
    return told


def test_a_broken_allow_list_is_refused_and_changes_nothing(neighbour: Neighbour) -> None:
    generation = neighbour.sh("readlink /run/qtrade/state/config/current")
    saved = "for save in iptables-save ip6tables-save; do sudo -n /usr/sbin/$save -t filter | grep ^-A; done"
    rules = neighbour.sh(saved)
    done = neighbour.push(ufw_solana_rpc_sources=[*NETWORKS, "everybody"])
    assert done.returncode == HostError.exit_code
    assert "was not taken" in done.stderr
    assert neighbour.sh("readlink /run/qtrade/state/config/current") == generation
    assert "the last good list stays" in neighbour.sh("journalctl --no-pager -q -b -u qtrade-firewall.service")
    assert neighbour.sh("systemctl is-active qtrade-firewall.service ufw.service").split() == ["active", "active"]
    assert neighbour.sh(saved) == rules
    for address, ports in SERVED.items():
        found = neighbour.answers(address, 22, 8899, 8900, 10000, 10001)
        assert found == {"open": sorted(ports - {8001}), "refused": sorted({8899, 8900} - ports)}
    assert ask_health(neighbour, GUEST_ADDRESS)["result"] == "ok"
