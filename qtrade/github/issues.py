"""A run that fails where nobody looks opens an issue, tells more in it while it goes on to fail, and closes it when all is well again."""

from dataclasses import dataclass

from qtrade.github.api import GitHub

LABEL = "qtrade"
_PAGE = 100


@dataclass(frozen=True)
class Told:
    """What became of a message: `done` is opened, commented, closed or nothing."""

    done: str
    number: int | None = None
    url: str = ""


def tell_failure(api: GitHub, title: str, body: str) -> Told:
    """Comment on the open issue of this title, or open one. Raises as `GitHub.get`."""
    found = _find(api, title)
    if found is not None:
        api.post(f"issues/{found.number}/comments", {"body": body})
        return Told("commented", found.number, found.url)
    made = api.post("issues", {"title": title, "body": body, "labels": [LABEL]})
    return Told("opened", made["number"], made["html_url"])


def tell_success(api: GitHub, title: str, body: str) -> Told:
    """Close the open issue of this title, if there is one. Raises as `GitHub.get`."""
    found = _find(api, title)
    if found is None:
        return Told("nothing")
    api.post(f"issues/{found.number}/comments", {"body": body})
    api.patch(f"issues/{found.number}", {"state": "closed", "state_reason": "completed"})
    return Told("closed", found.number, found.url)


def _find(api: GitHub, title: str) -> Told | None:
    # Lists of issues hold pull requests, too.
    for one in api.get("issues", state="open", labels=LABEL, per_page=_PAGE):
        if one["title"] == title and "pull_request" not in one:
            return Told("found", one["number"], one["html_url"])
    return None
