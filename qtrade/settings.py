"""Where things are: set by environment variables, with defaults that need none."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qtrade.errors import BadInput

# They separate layers and options of an overlay mount, and words of mmdebstrap's hooks.
_NOT_IN_PATHS = ",:\\\"' \t\n"
# Any of them makes a folder a project.
_MARKS = ("manifests/hosts", "manifests/images", "manifests/environments")
# A project brings all of such a folder, or takes qtrade's; of other folders it may bring single files.
_WHOLE = ("ansible", "packer")
_CODE = Path(__file__).resolve().parent.parent
# Where a wheel has what a checkout has beside the code; setup.py puts it there.
_PACKED = Path(__file__).resolve().parent / "product"
_S3_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([0-9A-Za-z._/-]*))?")
Checksums = Literal["when_required", "when_supported"]


@dataclass(frozen=True)
class S3Address:
    """A store in a bucket. `endpoint` is the URL of an S3 that is not Amazon's.

    `checksums` says when boto3 adds checksums of its own; `when_required` suits every S3, since bodies are signed anyway.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    checksums: Checksums = "when_required"

    def __str__(self) -> str:
        """Return the URL as it stands in QTRADE_STORE."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class Settings:
    """Folders that qtrade works with.

    `project` holds what the user wrote, in manifests/ (QTRADE_PROJECT; else the working directory or a parent of it that has such; else
    the checkout that this module is in; else the working directory). `product` holds what comes with qtrade: ansible/, packer/ and
    manifests/, read only; None: nothing does. `state_dir` holds everything that qtrade writes (QTRADE_STATE_DIR; else .state in the
    project). `store` holds published images (QTRADE_STORE: a folder, or s3://bucket/prefix, then with QTRADE_S3_ENDPOINT,
    QTRADE_S3_CHECKSUMS and what boto3 reads, such as AWS_ACCESS_KEY_ID; else state_dir/store). `keys` holds the signing keys, where they
    are not to lie in the state directory (QTRADE_KEYS_DIR; else state_dir/keys). `deploy_identity` is the private key that deploys log in
    with, where it is not the file that a host's manifest names (QTRADE_DEPLOY_IDENTITY; on runners).
    """

    project: Path
    state_dir: Path
    store: Path | S3Address
    keys: Path | None = None
    deploy_identity: Path | None = None
    product: Path | None = None

    def find(self, relative: str) -> Path:
        """Return a file or folder of the project or, where the project has none, the one that comes with qtrade.

        ansible/ and packer/ come from one of the two as a whole. Where neither has it, the answer is where the project would.
        """
        head = relative.split("/", maxsplit=1)[0]
        own = self.project / relative
        if self.product is None or (self.project / head if head in _WHOLE else own).exists():
            return own
        # Components may be made of qtrade's own code, which is no data of a wheel.
        for root in (self.product, _CODE):
            if (root / relative).exists():
                return root / relative
        return own

    def find_all(self, folder: str, pattern: str) -> tuple[Path, ...]:
        """Return the files in `folder` by their names: the project's, and those of qtrade that it does not replace."""
        roots = (self.product, self.project) if self.product else (self.project,)
        found = {path.name: path for root in roots for path in (root / folder).glob(pattern)}
        return tuple(found[name] for name in sorted(found))

    @property
    def ansible(self) -> Path:
        """The folder of roles, playbooks and ansible.cfg."""
        return self.find("ansible")

    @property
    def tools_dir(self) -> Path:
        """Root with the programs whose bytes must not depend on the machine."""
        return self.state_dir / "roots" / "tools"

    @property
    def cache_dir(self) -> Path:
        """Downloads, addressed by content or guarded by a digest."""
        return self.state_dir / "cache"

    @property
    def work_dir(self) -> Path:
        """Work in progress; what is found here at the start of a command is stale."""
        return self.state_dir / "work"

    @property
    def keys_dir(self) -> Path:
        """The trust set and the signing keys that are at hand; mode 700."""
        return self.keys or self.state_dir / "keys"


def load_settings() -> Settings:
    """Read the settings from the environment. Raises `BadInput` when there is no project, or a variable is of no use."""
    project = _find_project()
    state_dir = Path(os.environ.get("QTRADE_STATE_DIR") or project / ".state").absolute()
    unfit = sorted(set(str(state_dir)) & set(_NOT_IN_PATHS))
    if unfit:
        raise BadInput(
            f"the state directory {state_dir} has {unfit[0]!r} in its path, which overlay mounts and mmdebstrap take for something else",
            resolution="set QTRADE_STATE_DIR to a folder without it",
        )
    if state_dir.exists() and not state_dir.is_dir():
        raise BadInput(
            f"the state directory {state_dir} is a file",
            resolution="set QTRADE_STATE_DIR to a folder, there already or not",
        )
    keys = os.environ.get("QTRADE_KEYS_DIR")
    identity = os.environ.get("QTRADE_DEPLOY_IDENTITY")
    return Settings(
        project=project,
        state_dir=state_dir,
        store=_find_store(state_dir),
        keys=Path(keys).absolute() if keys else None,
        deploy_identity=Path(identity).absolute() if identity else None,
        product=_PACKED if _PACKED.is_dir() else _CODE,
    )


def _find_store(state_dir: Path) -> Path | S3Address:
    named = os.environ.get("QTRADE_STORE") or str(state_dir / "store")
    if "://" not in named:
        return Path(named).absolute()
    match = _S3_URL.fullmatch(named)
    if match is None:
        raise BadInput(
            f"QTRADE_STORE is {named!r:.200}, which is no store",
            resolution="set it to a folder, or to s3://bucket/prefix",
        )
    endpoint = os.environ.get("QTRADE_S3_ENDPOINT") or None
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise BadInput(
            f"QTRADE_S3_ENDPOINT is {endpoint!r:.200}, which is no URL", resolution="write it as https://s3.example.org"
        )
    return S3Address(match[1], (match[2] or "").strip("/"), endpoint, _find_checksums())


def _find_checksums() -> Checksums:
    match os.environ.get("QTRADE_S3_CHECKSUMS") or "when_required":
        case "when_required" | "when_supported" as checksums:
            return checksums
        case other:
            raise BadInput(
                f"QTRADE_S3_CHECKSUMS is {other!r:.80}", resolution="set it to when_required or when_supported"
            )


def _find_project() -> Path:
    named = os.environ.get("QTRADE_PROJECT")
    if named:
        if not Path(named).is_dir():
            raise BadInput(
                f"QTRADE_PROJECT is {named!r:.200}, which is no folder",
                details=f"a project has one of the folders {', '.join(_MARKS)}",
                resolution="make the folder, or set QTRADE_PROJECT to your project",
            )
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents, _CODE):
        if any((folder / mark).is_dir() for mark in _MARKS):
            return folder
    return here
