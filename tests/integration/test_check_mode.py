"""Roles against a host that runs: `--check --diff` tells how it differs and writes nothing; for real, it is refused."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bake.roles import list_roles
from bake.target_python import SUITE_PYTHON
from qtrade.settings import load_settings
from tests.fakes.running_host import NAME, TOOLS, RunningHost, run_lab_host

pytestmark = pytest.mark.integration

# What a person did to the host by hand: another value, a file that all may read, a key that should not be there.
DRIFT = """\
echo 'vm.max_map_count = 1' >etc/sysctl.d/21-agave-validator.conf
chmod 0644 etc/sudoers.d/10-qtrade
echo key >etc/ssh/ssh_host_rsa_key
chmod 0600 etc/ssh/ssh_host_rsa_key
"""
DRIFTED = "bare_metal"
ROLES = list_roles(load_settings())
# A role called past its playbook, and so past its first task.
OTHER_PLAYBOOK = """\
- name: Call the role from elsewhere
  hosts: all
  vars: {qtrade_packages: [], qtrade_components: "{{ qtrade_layers['agave'].components }}"}
  roles: [{role: agave}]
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[RunningHost]:
    with run_lab_host(load_settings(), tmp_path_factory.mktemp("live"), DRIFT) as running:
        yield running


@pytest.mark.parametrize("role", [role for role in ROLES if role != DRIFTED])
def test_a_host_that_is_as_its_layers_shows_no_difference(host, role) -> None:
    before = host.snapshot()
    played = host.play(role, "--check", "--diff")
    assert (played.code, played.changed) == (0, 0), played.text
    assert host.snapshot() == before


def test_drift_is_shown_and_left_as_it_is(host) -> None:
    before = host.snapshot()
    assert "etc/sysctl.d/21-agave-validator.conf" in before
    played = host.play(DRIFTED, "--check", "--diff")
    assert (played.code, played.changed) == (0, 1), played.text
    for line in ("-vm.max_map_count = 1", "-present", "mode 0644", "mode 0440"):
        assert line in played.text
    for path in ("/etc/sysctl.d/21-agave-validator.conf", "/etc/sudoers.d/10-qtrade", "/etc/ssh/ssh_host_rsa_key"):
        assert f"before: {path}" in played.text or f"--- before: {path}" in played.text, played.text
    assert host.snapshot() == before


def test_what_the_login_may_not_read_is_named(host) -> None:
    played = host.play("ufw_solana", "--check")
    text = " ".join(played.text.split())
    assert "etc/ufw/user.rules: may not be read" in text
    assert "etc/ufw/user6.rules: may not be read" in text
    played = host.play("agave", "--check")
    assert "/run/qtrade/components/agave is there only while the layer is baked" in " ".join(played.text.split())


def test_the_python_of_the_host_is_the_one_that_was_checked_before_the_bake(host) -> None:
    done = subprocess.run(
        [
            TOOLS / "ansible",
            "-i",
            "inventory",
            NAME,
            "-m",
            "ansible.builtin.setup",
            "-a",
            "filter=ansible_python_version",
        ],
        cwd=Path(host.settings.project) / "ansible",
        env=host.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    major, minor = SUITE_PYTHON["trixie"]
    assert f'"ansible_python_version": "{major}.{minor}.' in done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_for_real_every_playbook_is_refused_whatever_tags_are_chosen(host, role) -> None:
    before = host.snapshot()
    for options in ((), ("--tags", "something")):
        played = host.play(role, *options)
        assert played.code != 0
        assert "never a running host" in " ".join(played.text.split())
        assert "0010-no-apply-to-live-hosts.md" in played.text
    assert host.snapshot() == before


def test_a_role_that_is_called_from_elsewhere_is_refused_too(host, tmp_path) -> None:
    playbook = tmp_path / "other.yml"
    playbook.write_text(OTHER_PLAYBOOK)
    before = host.snapshot()
    played = host.play("agave", playbook=playbook)
    assert played.code != 0
    assert "qtrade.image.tree changes a layer that is being baked" in " ".join(played.text.split())
    assert host.snapshot() == before
    assert host.play("agave", "--check", playbook=playbook).code == 0


def test_a_host_with_another_key_than_the_pinned_one_is_not_spoken_to(host, tmp_path) -> None:
    pinned = host.settings.state_dir / "known_hosts" / NAME
    kept = pinned.read_text()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    try:
        pinned.write_text(f"{NAME} {' '.join((tmp_path / 'other.pub').read_text().split()[:2])}\n")
        played = host.play("agave", "--check")
    finally:
        pinned.write_text(kept)
    assert played.code != 0
    assert "Host key verification failed" in played.text


def test_ansible_reads_the_inventory_and_finds_no_secret_in_it(host) -> None:
    command = [TOOLS / "ansible-inventory", "-i", "inventory", "--list"]
    folder = Path(host.settings.project) / "ansible"
    done = subprocess.run(command, cwd=folder, env=host.environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["environment_development"]["hosts"] == [NAME]
    assert found["_meta"]["hostvars"][NAME]["ansible_user"] == "operator"
    assert "vault:" not in done.stdout
