"""GitHub's REST API with the shapes that its documentation gives, in memory: git data, pull requests, issues, releases.

Each token has the permissions of its job, and no other: what they do not allow is answered as GitHub does.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback import QuietHandler, serve_on_loopback

REPOSITORY = "example/fleet"
_FORBIDDEN = (403, {"message": "Resource not accessible by integration", "status": "403"})
_MISSING = (404, {"message": "Not Found", "status": "404"})
# Path below the repository, and the permission that it takes: read for GET, write for all others.
_NEEDS = {"git": "contents", "releases": "contents", "pulls": "pull-requests", "issues": "issues"}
Answer = tuple[int, Any]


@dataclass
class GitHubState:
    """What the repository holds, and every call that came."""

    tokens: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, dict[str, Any]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)
    releases: list[dict[str, Any]] = field(default_factory=list)
    assets: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    url: str = ""

    def new_token(self, permissions: dict[str, str]) -> str:
        token = f"ghs_{len(self.tokens):036d}"
        self.tokens[token] = dict(permissions)
        return token

    def files_of(self, branch: str) -> dict[str, bytes]:
        """Return the files that the branch's last commit changed."""
        tree = self.trees[self.commits[self.refs[f"refs/heads/{branch}"]]["tree"]["sha"]]
        return {entry["path"]: self.blobs[entry["sha"]] for entry in tree["tree"]}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:  # noqa: PLR0911 - one for each kind
        """Answer a call below the repository."""
        words = path.split("/")
        match (method, *words):
            case ("GET", "git", "commits", sha):
                return (200, {"sha": sha, **self.commits[sha]}) if sha in self.commits else _MISSING
            case ("POST", "git", kind):
                return self._git(kind, body)
            case ("PATCH", "git", "refs", *name):
                return self._move(f"refs/{'/'.join(name)}", body)
            case (_, "pulls", *rest):
                return self._pulls(method, rest, query, body)
            case (_, "issues", *rest):
                return self._issues(method, rest, query, body)
            case (_, "releases", *rest):
                return self._releases(method, rest, body)
        return _MISSING

    def _git(self, kind: str, body: Any) -> Answer:
        if kind == "refs":
            if body["ref"] in self.refs:
                return 422, {"message": "Reference already exists", "status": "422"}
            self.refs[body["ref"]] = body["sha"]
            return 201, {"ref": body["ref"], "object": {"sha": body["sha"], "type": "commit"}}
        sha = f"{kind[:-1]}-{len(self.blobs) + len(self.trees) + len(self.commits)}"
        if kind == "blobs":
            assert body["encoding"] == "base64"
            self.blobs[sha] = base64.b64decode(body["content"], validate=True)
        elif kind == "trees":
            assert all(entry["sha"] in self.blobs for entry in body["tree"])
            self.trees[sha] = body
        else:
            assert body["tree"] in self.trees
            assert set(body["parents"]) <= set(self.commits)
            self.commits[sha] = {"tree": {"sha": body["tree"]}, "message": body["message"], "parents": body["parents"]}
        return 201, {"sha": sha}

    def _move(self, ref: str, body: Any) -> Answer:
        if ref not in self.refs:
            return 422, {"message": "Reference does not exist"}
        assert body["force"] is True
        self.refs[ref] = body["sha"]
        return 200, {"ref": ref, "object": {"sha": body["sha"]}}

    def _pulls(self, method: str, rest: list[str], query: dict[str, str], body: Any) -> Answer:
        if method == "GET":
            wanted = query.get("head", "").partition(":")[2]
            return 200, [
                one for one in self.pulls if one["state"] == query["state"] and wanted in ("", one["head"]["ref"])
            ]
        if method == "PATCH":
            pull = self.pulls[int(rest[0]) - 1]
            pull |= body
            return 200, pull
        if f"refs/heads/{body['head']}" not in self.refs:
            return 422, {
                "message": "Validation Failed",
                "errors": [{"resource": "PullRequest", "field": "head", "code": "invalid"}],
            }
        number = len(self.pulls) + 1
        url = f"https://github.example.org/{REPOSITORY}/pull/{number}"
        pull = {
            **body,
            "number": number,
            "html_url": url,
            "state": "open",
            "head": {"ref": body["head"]},
            "base": {"ref": body["base"]},
        }
        self.pulls.append(pull)
        return 201, pull

    def _issues(self, method: str, rest: list[str], query: dict[str, str], body: Any) -> Answer:
        if method == "GET":
            return 200, [one for one in self.issues if one["state"] == query["state"]]
        if rest[1:] == ["comments"]:
            self.comments.append((int(rest[0]), body["body"]))
            return 201, {"id": len(self.comments), "body": body["body"]}
        if method == "PATCH":
            issue = self.issues[int(rest[0]) - 1]
            issue |= body
            return 200, issue
        number = len(self.issues) + 1
        labels = [{"name": name} for name in body["labels"]]
        url = f"https://github.example.org/{REPOSITORY}/issues/{number}"
        self.issues.append({**body, "labels": labels, "number": number, "html_url": url, "state": "open"})
        return 201, self.issues[-1]

    def _releases(self, method: str, rest: list[str], body: Any) -> Answer:
        if method == "PATCH":
            self.releases[int(rest[0]) - 1] |= body
            return 200, self.releases[int(rest[0]) - 1]
        number = len(self.releases) + 1
        upload = f"{self.url}/uploads/repos/{REPOSITORY}/releases/{number}/assets{{?name,label}}"
        page = f"https://github.example.org/{REPOSITORY}/releases/tag/{body['tag_name']}"
        self.releases.append({**body, "id": number, "upload_url": upload, "html_url": page})
        return 201, self.releases[-1]


@contextmanager
def serve_github(state: GitHubState) -> Iterator[str]:
    """Serve the API until the block ends; yields its address."""

    class Handler(QuietHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            state.calls.append(f"{self.command} {parts.path}")
            found = re.fullmatch(rf"(/uploads)?/repos/{REPOSITORY}/(.+)", parts.path)
            status, document = _MISSING
            if token not in state.tokens:
                status, document = 401, {"message": "Bad credentials"}
            elif found:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, document = self._checked(state.tokens[token], found, query, content)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _checked(
            self, permissions: dict[str, str], found: re.Match[str], query: dict[str, str], content: bytes
        ) -> Answer:
            level = permissions.get(_NEEDS.get(found[2].split("/")[0], ""), "none")
            if level != "write" and not (level == "read" and self.command == "GET"):
                return _FORBIDDEN
            if found[1]:
                state.assets[query["name"]] = content
                return 201, {"name": query["name"], "state": "uploaded", "size": len(content)}
            return state.answer(self.command, found[2], query, json.loads(content) if content else None)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - names of http.server

    with serve_on_loopback(Handler) as url:
        state.url = url
        yield url
