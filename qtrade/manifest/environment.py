"""An environment: what development, staging and production allow."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import HostRole, Model, Name
from qtrade.manifest.drift import DriftPolicy
from qtrade.manifest.gates import Gates
from qtrade.manifest.hardware import HardwareProfile
from qtrade.manifest.monitoring import MonitorSet
from qtrade.manifest.promotion import BenchRules, PromotionDemands
from qtrade.manifest.rollout import RolloutPolicy
from qtrade.manifest.secrets import SecretPlaces, SecretRef


class Monitoring(Model):
    """Where `qtrade monitors` puts alerts and dashboards, and whom they tell. Keys are references to secrets."""

    site: str = Field(default="datadoghq.com", pattern=r"^[a-z0-9.-]+$")
    notify: tuple[str, ...] = Field(default=(), description="handles such as @pagerduty-solana")
    api_key: SecretRef = "env:DD_API_KEY"
    app_key: SecretRef = "env:DD_APP_KEY"


class Environment(Model):
    """Rules that all hosts of an environment share. Config values: those of the host stand above `roles`, and these above `config`."""

    schema_version: Literal[1]
    name: Literal["development", "staging", "production"]
    allow_standins: bool = False
    require_cve_gate: bool = False
    cve_snapshot_days: int = Field(
        default=7, ge=1, description="how old the tracker's data of an image's last CVE scan may be"
    )
    confirm: bool = True
    soak_s: int = Field(default=0, ge=0)
    minimum_healthy: dict[HostRole, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="how many other hosts of a role have to be healthy while one goes down, by role",
    )
    failover: dict[Name, Name] = Field(
        default_factory=dict,
        description="the host that takes over while another is down, and has to be healthy then, by host",
    )
    hardware: dict[HostRole, HardwareProfile] = Field(
        default_factory=dict, description="what the machine of a host has to be, by role; flash and verify look"
    )
    promotion: PromotionDemands = PromotionDemands()
    bench: BenchRules = BenchRules()
    rollout: RolloutPolicy = RolloutPolicy()
    monitor_set: MonitorSet = "base"
    monitoring: Monitoring = Monitoring()
    drift: DriftPolicy = DriftPolicy()
    gates: Gates = Gates()
    secrets: SecretPlaces = SecretPlaces()
    config: dict[str, Any] = Field(default_factory=dict)
    roles: dict[HostRole, dict[str, Any]] = Field(
        default_factory=dict, description="config values of the hosts of a role, by role"
    )

    @model_validator(mode="after")
    def _takes_over_for_another(self) -> "Environment":
        for host, partner in self.failover.items():
            if host == partner:
                raise ValueError(f"failover.{host} is the host itself, which cannot take over while it is down")
        return self

    @model_validator(mode="after")
    def _monitors_watch_what_hosts_send(self) -> "Environment":
        for place, config in (("config", self.config), *((f"roles.{role}", own) for role, own in self.roles.items())):
            for name, watched in (("datadog_environment", self.name), ("datadog_site", self.monitoring.site)):
                sent = config.get(name, watched)
                if sent != watched:
                    raise ValueError(f"{place}.{name} is {sent}, but the monitors of {self.name} watch {watched}")
        return self
