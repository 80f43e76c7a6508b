"""Every change of a host by a deploy goes through `recorded_deploy`: who, by which run, from what, and what came of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from flash.access import HostAccess
from qtrade.store.history import Deploy, Kind, Progress, recorded
from qtrade.trust.provenance import read_source

_ASKING = threading.Lock()


@contextmanager
def recorded_deploy(
    access: HostAccess, kind: Kind, *, version: str, image: str, inputs: dict[str, Any]
) -> Iterator[Progress]:
    """Record a deploy of the host, in the store, with the state of the checkout that it is made from beside its `inputs`."""
    host = access.host
    with _ASKING:
        source = _source(access.settings.project)
    deploy = Deploy(kind, host.environment, host.name, host.recipe, version, image, {**inputs, **source})
    with recorded(access.store.objects, deploy, access.reporter.say) as progress:
        yield progress


@cache
def _source(project: Path) -> dict[str, Any]:
    """Return the commit of the manifests; nothing outside of git. It is the same for all hosts of a command, which come side by side."""
    source = read_source(project)
    return {"commit": source.commit, "dirty": source.dirty} if source.commit else {}
