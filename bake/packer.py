"""The Python wrapper of Packer: argument lists, streamed and redacted output, results from files instead of text.

Packer is never given a secret: it prints sensitive variables (up to 1.15.0; hashicorp/packer commit 97952ced1).
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from qtrade import process
from qtrade.errors import ToolError
from qtrade.settings import Settings

# The versions with which the tests have passed; README.md names them, and says that others are untested.
TRIED = ("1.6.6",)


@dataclass(frozen=True)
class PackerBuild:
    """One `packer build` of a template folder: its variables and where its manifest is written."""

    program: Path
    template: Path
    variables: dict[str, str]
    manifest: Path

    def prepare(self) -> None:
        """Write the keys of the idle SSH proxy beside the manifest; Packer would take half a second to make RSA ones."""
        key = Ed25519PrivateKey.generate()
        form, plain = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        private, public = self._proxy_keys()
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        private.chmod(0o600)
        openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        public.write_bytes(key.public_key().public_bytes(*openssh))

    def _proxy_keys(self) -> tuple[Path, Path]:
        return self.manifest.with_name("proxy.key"), self.manifest.with_name("proxy.key.pub")

    def argv(self) -> tuple[str, ...]:
        """Return the command line."""
        private, public = self._proxy_keys()
        names = {
            **self.variables,
            "manifest": str(self.manifest),
            "proxy_key": str(private),
            "proxy_public": str(public),
        }
        flags = [flag for name, value in names.items() for flag in ("-var", f"{name}={value}")]
        return (
            # Packer leaves files where it runs and in TMPDIR, sockets among them, whose absolute paths would soon be too long (108 bytes).
            "env",
            "-C",
            str(self.manifest.parent),
            "TMPDIR=.",
            str(self.program),
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


def locate(settings: Settings) -> Path:
    """Return the Packer program: the machine's own, else that of Debian 12, whose package is unpacked first (root, network).

    Debian 13 and Ubuntu have no package of it. Debian 12's needs nothing but the C library, of its age or newer.
    """
    own = shutil.which("packer", path=process.CLEAN_PATH)
    if own:
        return Path(own)
    target = settings.state_dir / "roots" / "packer"
    program = target / "usr/bin/packer"
    if not program.is_file():
        fresh = target.with_name("packer.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        options = ("--mode=root", "--variant=extract", "--include=packer", "--format=directory")
        process.run([*process.DIES_WITH_US, "mmdebstrap", *options, "bookworm", fresh], timeout_s=600)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return program


def version(program: Path) -> tuple[int, ...]:
    """Return Packer's version. Raises `ToolError` when it cannot be told."""
    done = process.run([program, "version"], env={"CHECKPOINT_DISABLE": "1"}, timeout_s=60)
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if match is None:
        raise ToolError("cannot read Packer's version", details=done.stdout)
    return tuple(int(part) for part in match.groups())


def validate(program: Path, template: Path, variables: dict[str, str], work: Path) -> None:
    """Run `packer validate`. Raises `ToolError` with Packer's own words."""
    flags = [flag for name, value in variables.items() for flag in ("-var", f"{name}={value}")]
    process.run([program, "validate", *flags, template], env=environment(work), timeout_s=120)


def check_format(program: Path, template: Path) -> None:
    """Run `packer fmt -check`. Raises `ToolError` when a file is not in Packer's format."""
    process.run([program, "fmt", "-check", "-diff", template], env={"CHECKPOINT_DISABLE": "1"}, timeout_s=60)
