"""Measure a host within bounds: memory, disk, network, RPC, Geyser, PostgreSQL. What cannot be measured is said, and is never 0."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flash.bench.figures import Figures, read_figures
from flash.bench.guard import Load, LoadOrder, check_order, refuse_staked
from flash.bench.load import LOADS, Bed, make_record, prepare_bed
from flash.bench.on_host.probe import PARTS
from flash.bench.sent import run_on_host
from flash.inventory import load_environment, load_host
from qtrade.errors import BadInput
from qtrade.manifest import Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.attest import attest_bench, deploy_key
from qtrade.trust.fleet_facts import Bench
from qtrade.trust.keyring import ensure_keyring

# Enough for figures that can be compared, and next to nothing for a host that works.
_LIGHT = LoadOrder(seconds=30, rps=10, streams=1, writes=20)
_PROBE_S = 600.0
# Never written to, whatever a manifest says: where validators keep what takes days to get again.
_NEVER = ("/mnt/ledger", "/mnt/accounts", "/mnt/snapshots")


def bench_host(settings: Settings, name: str, reporter: Reporter) -> Bench:
    """Measure a host, and return the record that was kept.

    Raises `Refused` for a host with stake and where the environment allows no load, `NotFound` without a key to sign with, `HostError`.
    """
    store, keyring = open_store(settings), ensure_keyring(settings)
    deploy_key(keyring)
    host = load_host(settings, name)
    check_directory(host)
    check_order(_LIGHT, load_environment(settings, host))
    bed = prepare_bed(settings, store, keyring, host, reporter)
    refuse_staked(store, host, bed.seen)
    started = time.monotonic()
    with reporter.step(f"{name}: memory, disk and network"):
        figures = _probe(bed)
    for kind in Load:
        with reporter.step(f"{name}: {kind} for {_LIGHT.seconds} s"):
            figures = figures.plus(LOADS[kind](bed, _LIGHT))
    asked = {"disk": host.bench.directory, "size_mib": host.bench.size_mib, **_LIGHT.to_dict()}
    said = make_record(bed, "host", figures, asked, time.monotonic() - started)
    attest_bench(store, keyring, bed.image.id, said)
    return said


def _probe(bed: Bed) -> Figures:
    rules = bed.host.bench
    missing = {} if rules.directory else {"disk": "the host's manifest names no bench.directory"}
    asked: dict[str, Any] = {
        "disk": {"folder": rules.directory, "size_mib": rules.size_mib, "forbidden": forbidden_mounts(bed.host)},
        "network": {"peer": rules.iperf_peer, "url": rules.fetch_url},
        "missing": missing,
    }
    return read_probe(run_on_host(bed.operator, ("probe",), asked, within_s=_PROBE_S))


def forbidden_mounts(host: Host) -> list[str]:
    """Return where a measurement writes nothing: where ledger, accounts and snapshots lie, by convention and by this manifest."""
    words = [Path(one).name for one in _NEVER]
    return sorted({*_NEVER, *(disk.mount for disk in host.data_disks if any(word in disk.mount for word in words))})


def check_directory(host: Host) -> None:
    """Raise `BadInput` for a folder that no measurement may write to. The host looks once more, at what is mounted there."""
    folder = host.bench.directory
    for mount in forbidden_mounts(host):
        if folder is not None and Path(folder).is_relative_to(mount):
            raise BadInput(
                f"host {host.name}: bench.directory {folder} is on {mount}, which is never written to for a measurement",
                resolution="name a folder of the operator's on another disk, or leave it out: the disk is then not measured",
            )


def read_probe(told: dict[str, Any]) -> Figures:
    """Return the figures of the parts; a part that says why it has none has that reason for each of its figures. Pure."""
    figures, why = told.get("figures"), told.get("missing")
    metrics = figures if isinstance(figures, dict) else {}
    reasons = why if isinstance(why, dict) else {}
    found = Figures()
    for part, names in PARTS.items():
        known = _known(names, metrics)
        if part in reasons:
            found = found.plus(Figures(missing={f"bench.{name}": str(reasons[part])[:150] for name in names}))
        else:
            found = found.plus(read_figures("bench.", metrics, known))
    return found


def _known(names: Iterable[str], metrics: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of a part; a fetch in place of a peer has a name of its own, as the two are not the same measurement."""
    return tuple(
        "network_fetch_mbit_s" if name == "network_mbit_s" and "network_fetch_mbit_s" in metrics else name
        for name in names
    )
