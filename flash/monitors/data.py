"""Read manifests/monitoring and turn it into what Datadog's API takes, each object with a mark that says whose it is."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Any

from qtrade.errors import BadInput
from qtrade.manifest import Dashboard, Environment, Monitor, Monitors, load_manifest
from qtrade.manifest.image import canonical_json
from qtrade.manifest.monitoring import Graph, GraphGroup

OWNER = "managed_by:qtrade"
_SETS = {"none": (), "base": ("base",), "enhanced": ("base", "enhanced")}
# Dashboards have no tags of one's own (Datadog takes `team:` alone), so theirs stand in the last line of the description.
_MARK = re.compile(rf"^{OWNER} env:(?P<env>\S+) key:(?P<key>\S+) digest:(?P<digest>[0-9a-f]+)$", re.MULTILINE)
_DISPLAYS = {"line": "line", "area": "area", "bars": "bars"}


class Kind(StrEnum):
    """What there is in Datadog."""

    MONITOR = "monitor"
    DASHBOARD = "dashboard"


@dataclass(frozen=True)
class Wanted:
    """An object as it has to be: `body` is the API's."""

    kind: Kind
    key: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """Whose an object is, and of which data it was made."""

    env: str
    key: str
    digest: str


def load_wanted(folder: Path, environment: Environment, names: Mapping[str, str]) -> tuple[Wanted, ...]:
    """Return what the environment's monitor set holds, by kind and key. Raises `BadInput` naming the file."""
    values = {**names, "env": environment.name}
    chosen = _SETS[environment.monitor_set]
    found: list[Wanted] = []
    for path in sorted((folder / "monitors").glob("*.yaml")):
        for monitor in load_manifest(Monitors, path).monitors:
            wanted = Wanted(Kind.MONITOR, monitor.key, _fill(path, values, _monitor_body(monitor, environment)))
            found += [wanted] if monitor.set in chosen else []
    for path in sorted((folder / "dashboards").glob("*.yaml")):
        dashboard = load_manifest(Dashboard, path)
        wanted = Wanted(Kind.DASHBOARD, dashboard.key, _fill(path, values, _dashboard_body(dashboard)))
        found += [wanted] if dashboard.set in chosen else []
    _check_unique(folder, found)
    return tuple(mark(wanted, environment.name) for wanted in sorted(found, key=lambda one: (one.kind, one.key)))


def mark(wanted: Wanted, env: str) -> Wanted:
    """Return the object with its owner, environment, key and digest in it."""
    digest = hashlib.sha256(canonical_json(wanted.body).encode()).hexdigest()[:16]
    body = dict(wanted.body)
    if wanted.kind is Kind.MONITOR:
        ours = [OWNER, f"env:{env}", f"qtrade_key:{wanted.key}", f"qtrade_digest:{digest}"]
        body["tags"] = sorted({*body["tags"], *ours})
    else:
        line = f"{OWNER} env:{env} key:{wanted.key} digest:{digest}"
        body["description"] = f"{body['description']}\n\n{line}".strip()
    return Wanted(wanted.kind, wanted.key, body)


def read_mark(kind: Kind, body: Mapping[str, Any]) -> Mark | None:
    """Return whose an object is; None for one that is not ours."""
    if kind is Kind.DASHBOARD:
        match = _MARK.search(str(body.get("description") or ""))
        return Mark(match["env"], match["key"], match["digest"]) if match else None
    tags = [str(tag) for tag in body.get("tags") or ()]
    fields = dict(tag.split(":", 1) for tag in tags if ":" in tag)
    if OWNER not in tags or not {"env", "qtrade_key"} <= set(fields):
        return None
    return Mark(fields["env"], fields["qtrade_key"], fields.get("qtrade_digest", ""))


def _monitor_body(monitor: Monitor, environment: Environment) -> dict[str, Any]:
    thresholds = monitor.thresholds.model_dump(exclude_none=True)
    options: dict[str, Any] = {
        "thresholds": thresholds,
        "notify_no_data": monitor.no_data_min is not None,
        "include_tags": True,
        "require_full_window": False,
        "new_group_delay": monitor.new_group_delay_s,
    }
    if monitor.no_data_min is not None:
        options["no_data_timeframe"] = monitor.no_data_min
    if monitor.renotify_min is not None:
        options["renotify_interval"] = monitor.renotify_min
    notify = " ".join(environment.monitoring.notify)
    return {
        "name": f"[$env] {monitor.name}",
        "type": monitor.type,
        "query": f"{monitor.query.strip()} {monitor.comparator} {monitor.thresholds.critical:g}",
        "message": f"{monitor.message.strip()}\n\n{notify}".strip(),
        "priority": monitor.priority,
        "tags": list(monitor.tags),
        "options": options,
    }


def _dashboard_body(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "title": dashboard.title,
        "description": dashboard.description.strip(),
        "layout_type": "ordered",
        "template_variables": dashboard.api_variables(),
        "widgets": [_group(group) for group in dashboard.groups],
    }


def _group(group: GraphGroup) -> dict[str, Any]:
    widgets = [{"definition": _graph(graph)} for graph in group.graphs]
    return {"definition": {"type": "group", "layout_type": "ordered", "title": group.title, "widgets": widgets}}


def _graph(graph: Graph) -> dict[str, Any]:
    queries = [
        {"data_source": "metrics", "name": f"query{number}", "query": query}
        for number, query in enumerate(graph.queries, 1)
    ]
    formulas = [{"formula": query["name"]} for query in queries]
    if graph.display in _DISPLAYS:
        request = {"queries": queries, "formulas": formulas, "response_format": "timeseries"}
        request["display_type"] = _DISPLAYS[graph.display]
        return {"type": "timeseries", "title": graph.title, "show_legend": True, "requests": [request]}
    for query in queries:
        query["aggregator"] = "last"
    request = {"queries": queries, "formulas": formulas, "response_format": "scalar"}
    if graph.display == "value":
        unit = {"custom_unit": graph.unit} if graph.unit else {}
        return {"type": "query_value", "title": graph.title, "precision": 2, "requests": [request], **unit}
    return {"type": "toplist", "title": graph.title, "requests": [request]}


def _fill(path: Path, values: Mapping[str, str], node: Any) -> Any:
    """Return the node with every `$name` in its texts replaced. Raises `BadInput` for an unknown name."""
    if isinstance(node, dict):
        return {key: _fill(path, values, value) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(path, values, value) for value in node]
    if not isinstance(node, str):
        return node
    try:
        return Template(node).substitute(values)
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"{path}: {node!r:.100} cannot be filled in",
            details=f"{error}; known: {', '.join(sorted(values))}",
            resolution="write `$$` for a dollar sign, or correct the name",
        ) from error


def _check_unique(folder: Path, found: Iterable[Wanted]) -> None:
    seen: set[tuple[Kind, str]] = set()
    for wanted in found:
        if (wanted.kind, wanted.key) in seen:
            raise BadInput(
                f"{folder}: {wanted.kind} {wanted.key} stands there twice", resolution="give one of them another key"
            )
        seen.add((wanted.kind, wanted.key))
