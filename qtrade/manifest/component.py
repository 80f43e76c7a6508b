"""Components: what an image holds that is no Debian package of the base suite.

Everywhere in `url`, `checksums`, `tag`, `asset` and in the commands of a build, `{version}` is the component's version and `{rustc}` its
Rust toolchain, so that a new version is one changed word. What a recipe leaves out (digests, sizes, commits), `qtrade lock` finds, verifies
and keeps.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model, Name, Sha256, Version

Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
_WEB = r"^https?://\S+$"


class _Component(Model):
    """What every component has. `rustc` is the version of the Rust toolchain that built it, where others must match it (bake/pair.py)."""

    version: Version
    standin: bool = False
    rustc: Version | None = None

    def expand(self, text: str) -> str:
        """Return `text` with the version, and the toolchain if there is one, in it."""
        text = text.replace("{version}", self.version)
        return text if self.rustc is None else text.replace("{rustc}", self.rustc)

    def asked(self) -> dict[str, Any]:
        """Return what a lock's entry answers: all fields but the stand-in flag. What has no `rustc` asks as it did before there was one."""
        left_out = {"standin"} if self.rustc is not None else {"standin", "rustc"}
        return self.model_dump(mode="json", exclude=left_out)


class Git(Model):
    """A tag of a Git repository. Without a `commit`, the lock finds the one that the tag names and holds on to it."""

    url: str = Field(min_length=1)
    tag: str = Field(min_length=1)
    commit: Commit | None = None


class Build(Model):
    """How a source becomes a component: in a builder root with `packages` of the recipe's suite and nothing else.

    `fetch` runs first, in the source folder, and is all that has a network; `command` runs without one. `output` is what is kept,
    relative to the source folder: a folder's contents, or a file. `versions` are commands whose output is written into the provenance.
    """

    packages: tuple[Name, ...]
    fetch: str = ""
    command: str = Field(min_length=1)
    output: str = Field(pattern=r"^[^/].*$")
    versions: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    timeout_s: int = Field(default=7200, gt=0)


class SourceComponent(_Component):
    """A folder of the project taken as it is; or, with `build`, what was built from that folder or from a Git repository."""

    kind: Literal["source"]
    path: str | None = None
    git: Git | None = None
    build: Build | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "SourceComponent":
        if (self.path is None) == (self.git is None):
            raise ValueError("one of path and git is required")
        if self.git is not None and self.build is None:
            raise ValueError("git needs build")
        return self


class AptComponent(_Component):
    """One .deb of a signed apt repository, at an exact version.

    `{state}` in `repository` and `key` is the state directory. `key` is a file of the project or, as the fingerprint is pinned, an
    address. With several fingerprints (a vendor that changes its key) any one of them may have signed.
    """

    kind: Literal["apt"]
    repository: str
    suite: str = "stable"
    section: str = "main"
    key: str
    fingerprint: Fingerprint | tuple[Fingerprint, ...] | None = None
    package: Name

    @model_validator(mode="after")
    def _pin_the_key(self) -> "AptComponent":
        if not self.fingerprint and (not self.standin or self.key.startswith(("http:", "https:"))):
            raise ValueError(
                "fingerprint is required for a component that is not a stand-in, and for a key at an address"
            )
        return self

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of which one must have signed; none for a stand-in's own repository."""
        if self.fingerprint is None:
            return ()
        return (self.fingerprint,) if isinstance(self.fingerprint, str) else self.fingerprint


class UrlComponent(_Component):
    """One file at an address. `checksums` is the address of upstream's checksum file that names it."""

    kind: Literal["url"]
    url: str = Field(pattern=_WEB)
    sha256: Sha256 | None = None
    size: int | None = Field(default=None, gt=0)
    checksums: str | None = Field(default=None, pattern=_WEB)


class GithubComponent(_Component):
    """One asset of a GitHub release; `checksums` is the asset with the digests. A private one needs a token when it is locked."""

    kind: Literal["github"]
    repository: str = Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")
    tag: str = "v{version}"
    asset: str = Field(pattern=r"^[^/]+$")
    checksums: str | None = Field(default=None, pattern=r"^[^/]+$")
    sha256: Sha256 | None = None
    private: bool = False
    api: str = Field(default="https://api.github.com", pattern=_WEB)


Component = Annotated[SourceComponent | AptComponent | UrlComponent | GithubComponent, Field(discriminator="kind")]
