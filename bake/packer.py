"""The Python wrapper of Packer: argument lists, streamed and redacted output, results from files instead of text.

Packer is never given a secret: it prints sensitive variables (facts on HashiCorp's issue tracker, hashicorp/packer 97952ced1).
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from qtrade import process
from qtrade.errors import ToolError


@dataclass(frozen=True)
class PackerBuild:
    """One `packer build` of a template folder: its variables and where its manifest is written."""

    template: Path
    variables: dict[str, str]
    manifest: Path

    def argv(self) -> tuple[str, ...]:
        """Return the command line."""
        names = {**self.variables, "manifest": str(self.manifest)}
        flags = [flag for name, value in names.items() for flag in ("-var", f"{name}={value}")]
        return (
            "packer",
            "build",
            "-color=false",
            "-on-error=cleanup",
            "-parallel-builds=1",
            *flags,
            str(self.template),
        )

    def check_result(self) -> None:
        """Raise `ToolError` unless the manifest says that a build ended: Packer's exit code alone does not."""
        try:
            builds = json.loads(self.manifest.read_text())["builds"]
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise ToolError(f"packer ended well but wrote no result to {self.manifest}") from error
        if not builds:
            raise ToolError("packer ended well but built nothing", details=str(self.template))


def environment(work: Path) -> dict[str, str]:
    """Return the environment for Packer: no phone home, no colours, its own folders, this interpreter's Ansible first."""
    tools = str(Path(sys.executable).parent)
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": str(work / "packer-cache"),
        "PACKER_CONFIG_DIR": str(work),
        "HOME": str(work),
        "PATH": f"{tools}:{process.CLEAN_PATH}",
    }


def version() -> tuple[int, ...]:
    """Return Packer's version. Raises `ToolError` when there is none."""
    done = process.run(["packer", "version"], env={"CHECKPOINT_DISABLE": "1"}, timeout_s=60)
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if match is None:
        raise ToolError("cannot read Packer's version", details=done.stdout)
    return tuple(int(part) for part in match.groups())


def validate(template: Path, variables: dict[str, str], work: Path) -> None:
    """Run `packer validate`. Raises `ToolError` with Packer's own words."""
    flags = [flag for name, value in variables.items() for flag in ("-var", f"{name}={value}")]
    process.run(["packer", "validate", *flags, template], env=environment(work), timeout_s=120)


def check_format(template: Path) -> None:
    """Run `packer fmt -check`. Raises `ToolError` when a file is not in Packer's format."""
    process.run(["packer", "fmt", "-check", "-diff", template], env={"CHECKPOINT_DISABLE": "1"}, timeout_s=60)
