"""From an environment's name to the plan for its monitors, with the connection that it was made over."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flash.monitors.api import DatadogApi, MonitoringApi
from flash.monitors.data import load_wanted
from flash.monitors.names import choose_image, metric_names
from flash.monitors.plan import MonitorsPlan, plan_changes
from flash.secrets import resolve
from qtrade.manifest import MetricNames, load_environment_named, load_manifest
from qtrade.settings import Settings
from qtrade.store import open_store

DATA = "manifests/monitoring"


@dataclass(frozen=True)
class OpenMonitors:
    """A plan, and the API to carry it out with."""

    plan: MonitorsPlan
    api: MonitoringApi


@contextmanager
def open_monitors(
    settings: Settings, env: str, version: str | None, *, recipe: str, url: str | None = None
) -> Iterator[OpenMonitors]:
    """Give the plan for environment `env`. `url` takes the place of the site's address (QTRADE_DATADOG_URL).

    Raises `NotFound` for an unknown environment, version or secret, `BadInput` for wrong data, `ToolError` when Datadog refuses.
    """
    environment = load_environment_named(settings, env)
    image = choose_image(open_store(settings), environment, recipe, version)
    names = metric_names(load_manifest(MetricNames, settings.find(DATA) / "metrics.yaml"), image)
    wanted = load_wanted(settings.find(DATA), environment, names)
    access = environment.monitoring
    keys = [
        resolve(settings, environment, f"environment {env}: monitoring.{name}", reference).decode()
        for name, reference in (("api_key", access.api_key), ("app_key", access.app_key))
    ]
    with DatadogApi(access.site, keys[0], keys[1], url=url) as api:
        changes = plan_changes(wanted, api.find(env), env)
        yield OpenMonitors(MonitorsPlan(env, f"{image.name} {image.version}", access.site, changes), api)
