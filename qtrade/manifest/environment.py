"""An environment: what development, staging and production allow."""

from typing import Any, Literal

from pydantic import Field

from qtrade.manifest.base import Model


class Environment(Model):
    """Rules that all hosts of an environment share; `config` values stand below the host's own."""

    schema_version: Literal[1]
    name: Literal["development", "staging", "production"]
    allow_standins: bool = False
    require_cve_gate: bool = False
    confirm: bool = True
    soak_s: int = Field(default=0, ge=0)
    config: dict[str, Any] = Field(default_factory=dict)
