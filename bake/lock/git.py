"""Sources of Git repositories: which commit a tag names, and a checkout of exactly that commit."""

from pathlib import Path

from qtrade import process
from qtrade.errors import NotFound, ToolError, TrustError

_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file"}
_TIMEOUT_S = 3600


def resolve_tag(name: str, url: str, tag: str, expected: str | None) -> str:
    """Return the commit that the tag names upstream. `expected` is the commit of the recipe or of the lock.

    Raises `NotFound` when there is no such tag, `TrustError` when it names another commit than expected, `ToolError`.
    """
    reference = f"refs/tags/{tag}"
    said = _git("ls-remote", "--", url, reference, f"{reference}^{{}}")
    found = {line.split("\t")[1]: line.split("\t")[0] for line in said.splitlines() if "\t" in line}
    # An annotated tag is an object of its own; `^{}` is the commit that it names.
    commit = found.get(f"{reference}^{{}}") or found.get(reference)
    if commit is None:
        raise NotFound(
            f"component {name}: {url} has no tag {tag}", resolution="correct git.tag or version in the recipe"
        )
    if expected and commit != expected:
        raise TrustError(
            f"component {name}: the tag {tag} of {url} was moved",
            details=f"  expected {expected}\n  found    {commit}",
            resolution=f"find out from upstream why; only then `qtrade lock --update {name} --accept-changed {name}`",
        )
    return commit


def check_out(name: str, url: str, tag: str, commit: str, target: Path) -> None:
    """Put the tag's tree into the new folder `target`, its `.git` too. Raises `TrustError` when it is not `commit`."""
    target.mkdir(parents=True)
    _git("-C", target, "init", "--quiet")
    _git("-C", target, "fetch", "--quiet", "--depth=1", "--", url, f"refs/tags/{tag}")
    found = _git("-C", target, "rev-parse", "FETCH_HEAD^{commit}").strip()
    if found != commit:
        raise TrustError(
            f"component {name}: the tag {tag} of {url} gave another commit than the lock's",
            details=f"  expected {commit}\n  found    {found}",
        )
    _git("-C", target, "-c", "advice.detachedHead=false", "checkout", "--quiet", commit)


def _git(*args: str | Path) -> str:
    try:
        return process.run(["git", *args], env=_ENVIRONMENT, timeout_s=_TIMEOUT_S).stdout
    except ToolError as error:
        cure = error.resolution or "check git.url in the recipe and the network"
        raise ToolError(error.brief, details=error.details, resolution=cure) from error
