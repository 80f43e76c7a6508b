"""Monitoring as data: alerts and dashboards (manifests/monitoring), and what metrics are called in which version of a component.

Texts hold `$name` for what differs: `$env`, `$notify`, and each name of metrics.yaml. A literal dollar sign is `$$`.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model, Name, Version

MonitorSet = Literal["none", "base", "enhanced"]
MonitorType = Literal["query alert", "metric alert", "log alert", "event-v2 alert"]


class Thresholds(Model):
    """Where an alert begins; `warning` before it, `critical_recovery` where it ends."""

    critical: float
    warning: float | None = None
    critical_recovery: float | None = None


class Monitor(Model):
    """One alert. `query` ends before the comparison, which `comparator` and `thresholds.critical` make: so the two cannot differ.

    `set` is the smallest set that has it: `enhanced` holds `base`. `no_data_min` alerts when nothing comes for so many minutes.
    """

    key: Name
    set: Literal["base", "enhanced"] = "base"
    name: str = Field(min_length=1, max_length=200)
    type: MonitorType = "query alert"
    query: str = Field(min_length=1)
    comparator: Literal[">", ">=", "<", "<="] = ">"
    thresholds: Thresholds
    message: str = Field(min_length=1)
    priority: int = Field(ge=1, le=5)
    no_data_min: int | None = Field(default=None, ge=2)
    renotify_min: int | None = Field(default=None, ge=10)
    new_group_delay_s: int = Field(default=300, ge=0)
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _warning_comes_first(self) -> "Monitor":
        warning, critical = self.thresholds.warning, self.thresholds.critical
        if warning is not None and (warning >= critical if self.comparator.startswith(">") else warning <= critical):
            raise ValueError(f"monitor {self.key}: warning {warning} would come after critical {critical}")
        return self


class Monitors(Model):
    """A file of manifests/monitoring/monitors."""

    schema_version: Literal[1]
    monitors: tuple[Monitor, ...] = Field(min_length=1)


class Graph(Model):
    """A widget: queries of metrics, drawn over time or as the last value."""

    title: str
    queries: tuple[str, ...] = Field(min_length=1)
    display: Literal["line", "area", "bars", "value", "toplist"] = "line"
    unit: str | None = None


class GraphGroup(Model):
    """Widgets under one heading."""

    title: str
    graphs: tuple[Graph, ...] = Field(min_length=1)


class Dashboard(Model):
    """A file of manifests/monitoring/dashboards."""

    schema_version: Literal[1]
    key: Name
    set: Literal["base", "enhanced"] = "base"
    title: str = Field(min_length=1)
    description: str = ""
    variables: dict[str, str] = Field(default_factory=dict, description="template variables: name -> tag")
    groups: tuple[GraphGroup, ...] = Field(min_length=1)

    def api_variables(self) -> list[dict[str, Any]]:
        """Return the template variables as Datadog's API takes them."""
        return [{"name": name, "prefix": tag, "defaults": ["*"]} for name, tag in self.variables.items()]


class MetricName(Model):
    """What a prefix is called, by the version of the component since which it is."""

    component: Name
    since: dict[Version, str] = Field(min_length=1)


class MetricNames(Model):
    """The file manifests/monitoring/metrics.yaml."""

    schema_version: Literal[1]
    names: dict[str, MetricName]
