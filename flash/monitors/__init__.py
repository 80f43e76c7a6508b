"""Alerts and dashboards: from the data of manifests/monitoring to Datadog, by its API and official client."""

from flash.monitors.apply import Applied, apply_plan
from flash.monitors.data import Wanted, load_wanted
from flash.monitors.names import choose_image, metric_names
from flash.monitors.plan import Action, Change, MonitorsPlan, plan_changes, render_plan

__all__ = [
    "Action",
    "Applied",
    "Change",
    "MonitorsPlan",
    "Wanted",
    "apply_plan",
    "choose_image",
    "load_wanted",
    "metric_names",
    "plan_changes",
    "render_plan",
]
