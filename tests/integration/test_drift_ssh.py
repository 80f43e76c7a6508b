"""`qtrade drift` over real SSH: many hosts side by side, a key that is not the pinned one, an agent that knows no such verb."""

import pytest
import yaml

from flash.drift.look import choose_hosts, look_at_all
from flash.ssh import known_hosts_path
from qtrade.settings import Settings, load_settings
from tests.bench.drift import measure
from tests.fakes.drifting_host import make_host
from tests.fakes.examples import make_settings
from tests.fakes.ssh_server import SshServer, serve_ssh

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_hosts_are_looked_at_side_by_side(tmp_path, monkeypatch) -> None:
    result = measure(tmp_path, 8, 1.0, monkeypatch.setattr)
    assert (result["hosts"], result["found"]) == (8, 8)
    # One after the other they would take eight seconds for the agents alone.
    assert result["seconds"] < 7


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    made = make_settings(tmp_path)
    make_host(made, tmp_path / "host", monkeypatch.setattr)
    return made


def look(settings: Settings, server: SshServer, pinned: str) -> list[tuple[str, str]]:
    """Look at the server as rpc-1, whose pinned key is that of the file `pinned`."""
    manifest = settings.project / "manifests/hosts/rpc-1.yaml"
    ssh = {"port": server.port, "user": "root", "identity_file": str(server.identity)}
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), "address": "127.0.0.1", "ssh": ssh}))
    known_hosts_path(settings, "rpc-1").write_text(f"rpc-1 {(server.folder / pinned).read_text()}")
    (report,) = look_at_all(settings, choose_hosts(settings, "rpc-1", None))
    return [(one.kind, one.subject) for one in report.findings]


def test_another_key_than_the_pinned_one_is_called_by_its_name(settings, tmp_path) -> None:
    with serve_ssh(load_settings(), tmp_path / "sshd") as server:
        assert look(settings, server, "user_key.pub") == [("host_key", "ssh_host_ed25519_key"), ("unobserved", "host")]
        # Refused before anybody logged in.
        assert server.connections == 0


@pytest.mark.parametrize("answer", ["exit 2", "echo nonsense", "printf '{'"])
def test_an_agent_that_does_not_know_how_is_told(settings, tmp_path, answer) -> None:
    script = tmp_path / "answer"
    script.write_text(f"#!/bin/sh\n{answer}\n")
    script.chmod(0o755)
    with serve_ssh(load_settings(), tmp_path / "sshd", f"ForceCommand {script}") as server:
        assert look(settings, server, "host_key.pub") == [("unobserved", "host")]
