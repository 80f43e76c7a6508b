"""A fake Datadog, a client of it, and one of each object."""

from collections.abc import Iterator

import pytest

from flash.monitors import Wanted
from flash.monitors.api import DatadogApi
from flash.monitors.data import load_wanted
from tests.fakes.datadog_server import API_KEY, APP_KEY, DatadogServer, serve_datadog
from tests.fakes.monitors import NAMES, PROJECT, make_environment


@pytest.fixture
def datadog() -> Iterator[DatadogServer]:
    with serve_datadog() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """How long the client slept, each time."""
    return []


@pytest.fixture
def api(datadog, waits) -> Iterator[DatadogApi]:
    with DatadogApi("datadoghq.test", API_KEY, APP_KEY, url=datadog.url, sleep=waits.append) as client:
        yield client


@pytest.fixture
def wanted() -> tuple[Wanted, ...]:
    """What the committed data says for production's base set."""
    return load_wanted(PROJECT / "manifests/monitoring", make_environment(), NAMES)
