"""What an environment asks of an image before its channel leads to it, and what load its hosts may be put under."""

from typing import Annotated

from pydantic import Field

from qtrade.manifest.base import Model

METRIC = r"^bench\.[a-z0-9_]+$"
Metric = Annotated[str, Field(pattern=METRIC)]


class PromotionDemands(Model):
    """What has to be attested of an image. What is left out, production asks for, and the others do not.

    A boot test is asked for past development, whatever stands here.
    """

    integration: bool | None = Field(default=None, description="the suite passed on staging's hosts")
    rollout: bool | None = Field(default=None, description="a rollout through staging was committed")
    soak_s: int | None = Field(
        default=None,
        ge=0,
        description="how long that rollout's hosts ran the image under judgement; soak_s if left out",
    )
    load_test: bool | None = Field(default=None, description="a load test on a host of staging passed")
    keys: int | None = Field(
        default=None, ge=1, le=2, description="how many operators sign a promotion, with keys of their own"
    )


class BenchRules(Model):
    """Bounds of `qtrade bench` on the hosts of the environment. Options of the command go below these, never above."""

    allow_load: bool | None = Field(
        default=None, description="whether load may be put on hosts; if left out, everywhere but in production"
    )
    max_rps: int = Field(default=500, ge=1, le=5000, description="requests a second to one host")
    max_seconds: int = Field(default=900, ge=1, le=3600)
    error_share: float = Field(
        default=0.01, ge=0, lt=1, description="share of failed requests above which a load is ended"
    )
    limits: dict[Metric, float] = Field(
        default_factory=dict, description="what a load must not exceed to pass, by metric, such as bench.rpc_p99_ms"
    )
    tolerances: dict[Metric, Annotated[float, Field(ge=0, le=10)]] = Field(
        default_factory=dict,
        description="by how much of the other version's value a metric may be worse in a comparison; 0.1 if left out",
    )


class HostBench(Model):
    """What `qtrade bench host` may use of a host. What is left out is not measured."""

    directory: str | None = Field(
        default=None,
        pattern=r"^/([A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        description="a folder of the operator's in which one file is written and read, never on the disk of ledger or accounts",
    )
    size_mib: int = Field(default=256, ge=16, le=4096, description="size of that file")
    iperf_peer: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]*$",
        description="address of a machine of yours that runs `iperf3 -s`",
    )
    fetch_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s@']+$",
        description="what is fetched, at most 256 MiB of it, where there is no peer",
    )
