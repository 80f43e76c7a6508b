"""The probe over a real SSH server: one round trip for each look, and a host that is not there."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash.judge.answers import WATCHED
from flash.judge.collect import Collector, Watched
from flash.judge.record import Sample
from flash.ssh import known_hosts_path
from qtrade.manifest import Host
from qtrade.settings import Settings, load_settings
from tests.fakes.examples import host_fields, make_image, make_settings
from tests.fakes.projects import write_project
from tests.fakes.ssh_server import SshServer, serve_ssh

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        made = make_settings(Path(folder))
        write_project(made)
        yield made


def make_host(settings: Settings, server: SshServer, name: str, port: int) -> Host:
    pinned = known_hosts_path(settings, name)
    pinned.parent.mkdir(parents=True, exist_ok=True)
    pinned.write_text(f"{name} {(server.folder / 'host_key.pub').read_text()}")
    ssh = {"port": port, "user": "root", "operator": "root", "identity_file": str(server.identity)}
    return Host.model_validate(host_fields(name=name, address="127.0.0.1", ssh=ssh))


def test_looks_come_over_one_connection_and_silence_has_a_reason(settings, tmp_path) -> None:
    # It notes each command that a connection asks for, and runs it.
    script = tmp_path / "note"
    script.write_text(
        f'#!/bin/sh\necho "$SSH_ORIGINAL_COMMAND" >>{tmp_path}/commands\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    script.chmod(0o755)
    with serve_ssh(load_settings(), tmp_path / "sshd", f"ForceCommand {script}") as server:
        there = make_host(settings, server, "rpc-1", server.port)
        gone = make_host(settings, server, "rpc-2", 1)
        watched = [Watched(there, make_image()), Watched(gone, make_image())]

        async def gather() -> list[Sample]:
            return [one async for one in Collector(settings).observe(watched, interval_s=1, rounds=3)]

        found = asyncio.run(gather())
        assert server.connections == 1
    assert (tmp_path / "commands").read_text().count("python3 -IB -") == 3
    mine = [one for one in found if one.host == "rpc-1"]
    assert len(mine) == 3 * len(WATCHED)
    # The build machine is no host of ours, and says so; what it has, it tells.
    told = {one.metric: one for one in mine}
    assert "run/qtrade/boot" in told["version"].detail
    assert told["missing_mounts"].value == 1
    silent = [one for one in found if one.host == "rpc-2"]
    assert {one.value for one in silent} == {None}
    assert {"cannot be reached over SSH" in one.detail for one in silent} == {True}
