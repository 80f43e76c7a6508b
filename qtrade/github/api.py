"""GitHub's REST API, as far as the workflows need it: issues, branches, pull requests, releases. The token goes to its server alone."""

import os
from types import TracebackType
from typing import Any, Self

import httpx

from qtrade.errors import NotFound, ToolError
from qtrade.github.runner import read_variable
from qtrade.redaction import redact, register_secret

_TIMEOUT_S = 60.0
_NOT_FOUND = 404


class Answered(ToolError):
    """GitHub refused a request; `status` is the HTTP status."""

    def __init__(self, brief: str, *, status: int, details: str = "", resolution: str = "") -> None:
        super().__init__(brief, details=details, resolution=resolution)
        self.status = status


class GitHub:
    """The API of one repository (`owner/name`), as the token may use it."""

    def __init__(self, url: str, repository: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        register_secret(token)
        self.repository = repository
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=_TIMEOUT_S,
            transport=transport or httpx.HTTPTransport(retries=2),
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "qtrade",
            },
        )

    @classmethod
    def of_this_run(cls) -> Self:
        """Return the API as the workflow's own token may use it. Raises `UsageError` outside of a workflow."""
        return cls(
            os.environ.get("GITHUB_API_URL") or "https://api.github.com",
            read_variable("GITHUB_REPOSITORY", "owner/name of the repository"),
            read_variable("GITHUB_TOKEN", "the token of the workflow"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Return the answer to a GET below the repository. Raises `NotFound`, `Answered`, `ToolError`."""
        return self.call("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to a POST below the repository. Raises as `get`."""
        return self.call("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to a PATCH below the repository. Raises as `get`."""
        return self.call("PATCH", path, json=body)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the answer; `path` is below the repository, or a whole address of GitHub's own. Raises as `get`."""
        where = path if path.startswith(("https://", "http://")) else f"/repos/{self.repository}/{path}"
        try:
            answer = self._client.request(method, where, **options)
        except httpx.HTTPError as error:
            raise ToolError(
                f"{method} {where}: GitHub cannot be reached",
                details=redact(str(error)),
                resolution="run the job again",
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        told = redact(_message(answer))
        if answer.status_code == _NOT_FOUND:
            raise NotFound(
                f"{method} {where}: not there, or the token may not see it",
                details=told,
                resolution="give the job the permission that docs/workflows.md lists",
            )
        raise Answered(
            f"{method} {where} was answered with {answer.status_code}",
            status=answer.status_code,
            details=told,
            resolution=_cure(answer.status_code),
        )


def _cure(status: int) -> str:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return "give the job the permission that docs/workflows.md lists"
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return "run the job again"
    return "mend what GitHub says above, and run the job again"


def _message(answer: httpx.Response) -> str:
    try:
        document = answer.json()
    except ValueError:
        return answer.text[:500]
    if not isinstance(document, dict):
        return str(document)[:500]
    errors = "; ".join(
        str(one.get("message", one) if isinstance(one, dict) else one) for one in document.get("errors") or ()
    )
    return ": ".join(part for part in (str(document.get("message", "")), errors) if part)
