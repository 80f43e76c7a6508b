"""Ansible's `serial` and `max_fail_percentage` on the simulated fleet, to compare with."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def play(port: int, hosts: list[str], folder: Path, *, version: str, soak_s: int) -> subprocess.CompletedProcess[str]:
    """Run the playbook over these hosts, to its end."""
    inventory = folder / "hosts"
    (folder / "ansible.cfg").touch()
    inventory.write_text("\n".join(hosts) + "\n")
    argv = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "--forks", "12"]
    argv += ["-e", f"port={port} version={version} soak_s={soak_s}", HERE / "rollout.yml"]
    settings = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible"),
        "ANSIBLE_ACTION_PLUGINS": str(HERE / "action_plugins"),
    }
    settings |= {
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
    }
    environment = {**os.environ, **settings}
    return subprocess.run(argv, env=environment, check=False, capture_output=True, text=True, timeout=3600)
