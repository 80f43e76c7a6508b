"""What is looked at on hosts while a version soaks: each metric's unit, whether it only grows, which way is better, and whose it is."""

from dataclasses import dataclass
from enum import StrEnum


class Metric(StrEnum):
    """What one sample measures."""

    VERSION = "version"
    WRONG_LAYERS = "wrong_layers"
    UNPROVEN_DISKS = "unproven_disks"
    FAILED_UNITS = "failed_units"
    UNIT_RESTARTS = "unit_restarts"
    CLOCK_SYNCHRONISED = "clock_synchronised"
    CLOCK_OFFSET_S = "clock_offset_s"
    LINK_SHORTFALL_MBIT = "link_shortfall_mbit"
    MISSING_MOUNTS = "missing_mounts"
    KERNEL_FAULTS = "kernel_faults"
    RPC_HEALTHY = "rpc_healthy"
    SLOT_LAG = "slot_lag"
    SLOT = "slot"
    RPC_P50_MS = "rpc_p50_ms"
    RPC_P99_MS = "rpc_p99_ms"
    GEYSER_SLOT = "geyser_slot"
    POSTGRES_WRITES = "postgres_writes"
    METRICS_SENT = "metrics_sent"
    PACKET_DROPS = "packet_drops"
    CPU_MHZ = "cpu_mhz"
    BENCH_DISK_IOPS = "bench_disk_iops"
    BENCH_NETWORK_MBIT = "bench_network_mbit"
    BENCH_MEMORY_MIB_S = "bench_memory_mib_s"
    BENCH_POSTGRES_TPS = "bench_postgres_tps"
    BENCH_RPC_MS = "bench_rpc_ms"
    BENCH_GEYSER_MS = "bench_geyser_ms"


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a metric. A counter only grows, and begins anew with whatever counts; an image needs all `roles` for it."""

    says: str
    unit: str = ""
    is_counter: bool = False
    more_is_better: bool = False
    roles: tuple[str, ...] = ()


METRICS: dict[Metric, MetricFacts] = {
    Metric.VERSION: MetricFacts("1 where the host runs the image that it is to run", more_is_better=True),
    Metric.WRONG_LAYERS: MetricFacts("layers under the root that are not the image's, by digest"),
    Metric.UNPROVEN_DISKS: MetricFacts("disks that the flash had to leave alone and has not proven untouched"),
    Metric.FAILED_UNITS: MetricFacts("units that have failed"),
    Metric.UNIT_RESTARTS: MetricFacts("restarts of services by systemd", is_counter=True),
    Metric.CLOCK_SYNCHRONISED: MetricFacts("1 where a time source vouches for the clock", more_is_better=True),
    Metric.CLOCK_OFFSET_S: MetricFacts("error of the clock, by its time source and by the clock of whoever looks", "s"),
    Metric.LINK_SHORTFALL_MBIT: MetricFacts("what the fastest link lacks of what the environment asks for", "Mbit/s"),
    Metric.MISSING_MOUNTS: MetricFacts("filesystems of the manifest that are not mounted in their place"),
    Metric.KERNEL_FAULTS: MetricFacts(
        "lines of machine checks, NVMe faults and the OOM killer in the kernel's log of this boot"
    ),
    Metric.RPC_HEALTHY: MetricFacts("1 where getHealth says ok", more_is_better=True, roles=("agave",)),
    Metric.SLOT_LAG: MetricFacts("slots behind the reference RPCs", "slots", roles=("agave",)),
    Metric.SLOT: MetricFacts(
        "the validator's slot; its rate is how it catches up",
        "slots",
        is_counter=True,
        more_is_better=True,
        roles=("agave",),
    ),
    Metric.RPC_P50_MS: MetricFacts("median of the JSON-RPC probes of a look", "ms", roles=("agave",)),
    Metric.RPC_P99_MS: MetricFacts("99th percentile of the JSON-RPC probes of a look", "ms", roles=("agave",)),
    Metric.GEYSER_SLOT: MetricFacts(
        "newest slot that Subscribe brought", "slots", is_counter=True, more_is_better=True, roles=("geyser",)
    ),
    Metric.POSTGRES_WRITES: MetricFacts(
        "rows that were written", "rows", is_counter=True, more_is_better=True, roles=("postgres", "qtrade_client")
    ),
    Metric.METRICS_SENT: MetricFacts(
        "points that the Collector has sent", "points", is_counter=True, more_is_better=True, roles=("datadog",)
    ),
    Metric.PACKET_DROPS: MetricFacts("packets that the network interfaces dropped", "packets", is_counter=True),
    Metric.CPU_MHZ: MetricFacts("median frequency of the processor's threads", "MHz", more_is_better=True),
    Metric.BENCH_DISK_IOPS: MetricFacts("benchmark of the disks", "IO/s", more_is_better=True),
    Metric.BENCH_NETWORK_MBIT: MetricFacts("benchmark of the network", "Mbit/s", more_is_better=True),
    Metric.BENCH_MEMORY_MIB_S: MetricFacts("benchmark of the memory", "MiB/s", more_is_better=True),
    Metric.BENCH_POSTGRES_TPS: MetricFacts(
        "benchmark of PostgreSQL", "transactions/s", more_is_better=True, roles=("postgres",)
    ),
    Metric.BENCH_RPC_MS: MetricFacts("benchmark of JSON-RPC", "ms", roles=("agave",)),
    Metric.BENCH_GEYSER_MS: MetricFacts("benchmark of the Geyser stream's delivery", "ms", roles=("geyser",)),
}
