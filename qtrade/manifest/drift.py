"""What may drift on a host, what an environment does about it, and which drift somebody lives with, for a reason and for a time."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model
from qtrade.manifest.secrets import SecretRef


class DriftKind(StrEnum):
    """What differs from what image, manifests and the last push say. `UNOBSERVED`: nobody could look, so nothing is proven."""

    IMAGE = "image"
    FILE = "file"
    PACKAGE = "package"
    CONFIG = "config"
    UNIT = "unit"
    PORT = "port"
    FIREWALL = "firewall"
    SYSCTL = "sysctl"
    MOUNT = "mount"
    USER = "user"
    SUDO = "sudo"
    SSH_KEY = "ssh_key"
    HOST_KEY = "host_key"
    CRON = "cron"
    CMDLINE = "cmdline"
    TIME_ZONE = "time_zone"
    PROVIDER = "provider"
    UNOBSERVED = "unobserved"


class DriftIgnore(Model):
    """One decision. `subject` and `host` may hold `*` as in the shell; the last day on which it counts is `expires` (UTC)."""

    kind: DriftKind
    subject: Annotated[str, Field(min_length=1, max_length=300)]
    host: Annotated[str, Field(min_length=1, max_length=63)] = "*"
    reason: Annotated[str, Field(min_length=10, max_length=500)]
    expires: date
    by: Annotated[str, Field(min_length=1, max_length=100)]


class DriftIgnores(Model):
    """manifests/drift/<environment>.yaml."""

    schema_version: Literal[1]
    ignores: tuple[DriftIgnore, ...] = ()


class Webhook(Model):
    """Where drift is posted as JSON. The secret is a reference; with `hmac` it signs the body, with `bearer` it is the token itself."""

    url: str = Field(pattern=r"^https?://[^\s@]+$")
    auth: Literal["hmac", "bearer"] = "hmac"
    secret: SecretRef

    @model_validator(mode="after")
    def _tokens_are_not_sent_in_the_clear(self) -> "Webhook":
        if self.auth == "bearer" and not self.url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise ValueError("a bearer token goes over https only; use auth: hmac, or https")
        return self


class DriftPolicy(Model):
    """What an environment does about drift.

    `report` tells who asks; `notify` also tells Datadog and the webhook; `enforce` also cures what a push or a reboot cures, at most
    `enforce_at_most` hosts in `enforce_window_s` seconds. `enforce` reboots no validator that votes, none that is drained, and none that
    somebody holds. With `notify_every_s` the same drift of a host is told again only so often. `provider_lock` says whether the
    provider's lock has to be on where there is one.
    """

    policy: Literal["report", "notify", "enforce"] = "report"
    webhook: Webhook | None = None
    notify_every_s: int = Field(default=3600, ge=60)
    enforce_at_most: int = Field(default=1, ge=1, le=100)
    enforce_window_s: int = Field(default=3600, ge=60)
    provider_lock: bool = False
