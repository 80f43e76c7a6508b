"""Keys on a machine that is not the operator's: the deploys' private key by variable, the host's own key by its manifest."""

from dataclasses import replace
from pathlib import Path

import pytest

from flash.host_keys import read_pinned
from flash.inventory import load_host
from flash.ssh import known_hosts_path, pin_host_key, target_for
from qtrade.settings import Settings, load_settings
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDo5VbJ6J8rVLxqKQkR1Rk8n0d0mV0GmZ2q0qQh1m0aa"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJescueKeyOfTheTestsOnlyNotARealOne"


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    write_project(settings, host={"ssh": {"identity_file": "/nowhere/key", "host_key": KEY}})
    return settings


def test_the_key_of_the_machine_stands_in_for_the_manifests(settings, tmp_path, monkeypatch) -> None:
    assert target_for(settings, load_host(settings, "rpc-1")).identity_file == Path("/nowhere/key")
    own = replace(settings, deploy_identity=tmp_path / "ssh-key")
    assert target_for(own, load_host(own, "rpc-1")).identity_file == tmp_path / "ssh-key"
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.project))
    monkeypatch.setenv("QTRADE_DEPLOY_IDENTITY", str(tmp_path / "ssh-key"))
    assert load_settings().deploy_identity == tmp_path / "ssh-key"


def test_a_host_that_this_machine_never_saw_has_the_key_of_its_manifest(settings) -> None:
    target_for(settings, load_host(settings, "rpc-1"))
    assert read_pinned(settings, "rpc-1") == KEY
    assert known_hosts_path(settings, "rpc-1").read_text() == f"rpc-1 {KEY}\n"


def test_what_this_machine_has_seen_of_a_host_counts_for_more_than_its_manifest(settings) -> None:
    pin_host_key(settings, "rpc-1", OTHER)
    target_for(settings, load_host(settings, "rpc-1"))
    assert read_pinned(settings, "rpc-1") == OTHER
