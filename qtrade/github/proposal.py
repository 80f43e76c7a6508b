"""Changes of a run come back as a pull request: recipes, locks and releases, committed by GitHub itself onto a branch of their own."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qtrade import process
from qtrade.errors import BadInput
from qtrade.github.api import Answered, GitHub

# Nothing else of the project is ever proposed by a run.
FOLDERS = ("manifests/images", "manifests/releases")
BRANCHES = "qtrade"
_EXISTS = 422
_PAGE = 100


@dataclass(frozen=True)
class Proposal:
    """What to propose: the branch, the commit it starts from, and the branch that it is for."""

    branch: str
    title: str
    body: str
    base_commit: str
    base_branch: str


@dataclass(frozen=True)
class PullRequest:
    """A pull request; `is_new` says whether this run opened it."""

    number: int
    url: str
    branch: str
    title: str = ""
    is_new: bool = False


def changed_files(project: Path) -> tuple[str, ...]:
    """Return the recipes, locks and releases that differ from the checkout's commit. Raises `BadInput` for one that is gone."""
    git = ("git", "-C", project, "-c", f"safe.directory={project}")
    done = process.run((*git, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *FOLDERS))
    lines = [line for line in done.stdout.split("\0") if line]
    gone = [line[3:] for line in lines if "D" in line[:2]]
    if gone:
        raise BadInput(f"{gone[0]} is gone", resolution="a run adds and changes manifests only")
    return tuple(sorted(line[3:] for line in lines))


def file_before(project: Path, path: str) -> str | None:
    """Return the file as the checkout's commit has it, None where it has none."""
    git = ("git", "-C", project, "-c", f"safe.directory={project}")
    done = process.run((*git, "show", f"HEAD:{path}"), check=False)
    return done.stdout if done.returncode == 0 else None


def difference(project: Path) -> str:
    """Return what differs in recipes, as `git diff` shows it; locks and releases are too long for people."""
    git = ("git", "-C", project, "-c", f"safe.directory={project}")
    return process.run((*git, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", "manifests/images/*.yaml")).stdout


def propose(api: GitHub, project: Path, proposal: Proposal, paths: Sequence[str]) -> PullRequest:
    """Commit the files onto the branch, which is made anew, and open its pull request unless one is open. Raises as `GitHub.get`."""
    tree = api.get(f"git/commits/{proposal.base_commit}")["tree"]["sha"]
    entries = [
        {"path": path, "mode": "100644", "type": "blob", "sha": _add_blob(api, (project / path).read_bytes())}
        for path in paths
    ]
    new_tree = api.post("git/trees", {"base_tree": tree, "tree": entries})["sha"]
    message = f"{proposal.title}\n\n{proposal.body}"
    commit = api.post("git/commits", {"message": message, "tree": new_tree, "parents": [proposal.base_commit]})["sha"]
    _move_branch(api, proposal.branch, commit)
    fields = {"title": proposal.title, "body": proposal.body}
    owner = api.repository.partition("/")[0]
    found = api.get("pulls", state="open", head=f"{owner}:{proposal.branch}")
    if found:
        api.patch(f"pulls/{found[0]['number']}", fields)
        return PullRequest(found[0]["number"], found[0]["html_url"], proposal.branch, proposal.title)
    made = api.post("pulls", {**fields, "head": proposal.branch, "base": proposal.base_branch})
    return PullRequest(made["number"], made["html_url"], proposal.branch, proposal.title, is_new=True)


def open_pins(api: GitHub) -> tuple[PullRequest, ...]:
    """Return the open pull requests that pin something: a bake of the main branch does not have it yet."""
    found = api.get("pulls", state="open", per_page=_PAGE)
    return tuple(
        PullRequest(one["number"], one["html_url"], one["head"]["ref"], one["title"])
        for one in found
        if one["head"]["ref"].startswith(f"{BRANCHES}/pin-")
    )


def _add_blob(api: GitHub, content: bytes) -> str:
    body = {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    return str(api.post("git/blobs", body)["sha"])


def _move_branch(api: GitHub, branch: str, commit: str) -> None:
    try:
        api.post("git/refs", {"ref": f"refs/heads/{branch}", "sha": commit})
    except Answered as error:
        if error.status != _EXISTS:
            raise
        api.patch(f"git/refs/heads/{branch}", {"sha": commit, "force": True})
