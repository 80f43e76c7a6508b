"""Run the roles' specs on a machine that runs, over SSH."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from qtrade import process
from qtrade.settings import Settings
from qtrade.specs.run import TESTS_FAILED, Mark, SpecResult, read_report, spec_command
from qtrade.ssh import SshTarget


def run_over_ssh(
    settings: Settings, target: SshTarget, roles: Iterable[str], marks: Iterable[Mark], work: Path
) -> SpecResult:
    """Run the specs of `roles` with `marks`, logged in as `target` says; `work` is made anew and keeps the report.

    Raises `ToolError` when they cannot run.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    sockets = settings.state_dir / "ssh"
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = work / "ssh_config"
    config.write_text(target.config(sockets))
    report = work / "report.xml"
    where = (f"--ssh-config={config}", f"--hosts=ssh://{target.host}")
    command = spec_command(settings.ansible, roles, marks, where, report)
    try:
        # They must not outlive a command that is killed.
        done = process.run(["setpriv", "--pdeathsig", "KILL", "--", *command], timeout_s=1200, check=False)
    finally:
        if target.sockets is None:
            process.run(["ssh", "-F", config, "-O", "exit", target.host], check=False)
    if done.returncode not in (0, TESTS_FAILED):
        raise process.failed(done)
    return read_report(report)
