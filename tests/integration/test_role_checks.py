"""Arguments that contradict each other stop the role before it changes anything; the message names the cure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
PACKAGES = ["chrony", "logrotate"]
BORROWED = {
    "agave_port_range": "8000-8030",
    "agave_rpc_port": 8899,
    "geyser_grpc_listen": ["unix:///run/yellowstone/grpc", "127.0.0.1:10000"],
    "geyser_prometheus_address": "127.0.0.1:8999",
}


def run_checks(tmp_path: Path, role: str, **values: object) -> subprocess.CompletedProcess[str]:
    """Run the checks of a role, and nothing else of it."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": role, "tasks_from": "checks"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    variables = {"ansible_python_interpreter": sys.executable, "qtrade_packages": PACKAGES, **BORROWED, **values}
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            "localhost,",
            "-e",
            json.dumps(variables),
            "play.yml",
        ],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_ROLES_PATH": str(PROJECT / "ansible/roles"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("role", "values"),
    [
        ("ufw_solana", {}),
        ("ufw_solana", {"agave_port_range": "20000-20026"}),
        ("ufw_solana", {"agave_rpc_port": 9899, "agave_port_range": "8890-8920"}),
        ("bare_metal", {}),
        ("bare_metal", {"bare_metal_container_runtime": "docker", "qtrade_packages": ["chrony", "docker.io"]}),
    ],
)
def test_arguments_that_fit_pass(tmp_path: Path, role: str, values: dict[str, object]) -> None:
    done = run_checks(tmp_path, role, **values)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("role", "values", "said"),
    [
        ("ufw_solana", {"agave_port_range": "8000-8020"}, "8000-8020: it has to be FIRST-LAST, 26 or more apart"),
        ("ufw_solana", {"agave_port_range": "8000:8030"}, "8000:8030: it has to be FIRST-LAST"),
        ("ufw_solana", {"agave_port_range": "8000-10000"}, "without the ports 8899, 8900, 10000, 8999"),
        ("ufw_solana", {"agave_rpc_port": 8010}, "without the ports 8010, 8011, 10000, 8999"),
        ("ufw_solana", {"agave_port_range": "1000-1030"}, "1000-1030: it has to be"),
        ("bare_metal", {"bare_metal_container_runtime": "docker"}, "add docker.io"),
        ("bare_metal", {"qtrade_packages": ["docker.io"]}, "remove docker.io"),
        ("bare_metal", {"bare_metal_core_dumps": "bounded"}, "add systemd-coredump"),
        ("bare_metal", {"qtrade_packages": ["systemd-coredump"]}, "remove systemd-coredump"),
    ],
)
def test_arguments_that_contradict_are_refused(tmp_path: Path, role: str, values: dict[str, object], said: str) -> None:
    done = run_checks(tmp_path, role, **values)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.replace("\\n", " ").split())
