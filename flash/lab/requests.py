"""What clients may ask of the lab's BMC: request bodies as models, and what a PATCH makes of the board's state."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from flash.drivers import BootOverride, BootSource, OverrideEnabled
from flash.lab.facts import LabFacts
from flash.lab.resources import boot_mode, boot_sources
from qtrade.errors import BadInput

_IfName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,15}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Login(_Body):
    """POST to the sessions."""

    user_name: str = Field(alias="UserName")
    password: str = Field(alias="Password")


class Reset(_Body):
    """POST to ComputerSystem.Reset."""

    reset_type: Literal["On", "ForceOff", "GracefulShutdown", "ForceRestart", "GracefulRestart", "PowerCycle"] = Field(
        alias="ResetType"
    )


class InsertMedia(_Body):
    """POST to VirtualMedia.InsertMedia. What has no meaning here is taken and ignored, as real BMCs do."""

    image: Annotated[str, StringConstraints(pattern=r"^https?://")] = Field(alias="Image")
    inserted: Literal[True] = Field(default=True, alias="Inserted")
    write_protected: Literal[True] = Field(default=True, alias="WriteProtected")
    transfer_method: Literal["Stream", "Upload"] | None = Field(default=None, alias="TransferMethod")
    transfer_protocol: Literal["HTTP", "HTTPS"] | None = Field(default=None, alias="TransferProtocolType")
    user_name: str | None = Field(default=None, alias="UserName")
    password: str | None = Field(default=None, alias="Password")


class _Boot(_Body):
    target: BootSource | None = Field(default=None, alias="BootSourceOverrideTarget")
    enabled: OverrideEnabled | None = Field(default=None, alias="BootSourceOverrideEnabled")
    mode: str | None = Field(default=None, alias="BootSourceOverrideMode")
    http_boot_uri: str | None = Field(default=None, alias="HttpBootUri")


class _Tap(_Body):
    ifname: _IfName = Field(alias="Ifname")
    netns: _IfName | None = Field(default=None, alias="Netns")


class _Qtrade(_Body):
    tap: _Tap | None = Field(alias="Tap")


class _Oem(_Body):
    qtrade: _Qtrade = Field(alias="Qtrade")


class SystemPatch(_Body):
    """PATCH of the system: the boot override, and as an extension of the lab the network of the next start."""

    boot: _Boot | None = Field(default=None, alias="Boot")
    oem: _Oem | None = Field(default=None, alias="Oem")


def patch_override(facts: LabFacts, old: BootOverride, patch: SystemPatch) -> BootOverride:
    """Return the override that a PATCH leaves. Raises `BadInput` for what the firmware cannot do."""
    boot = patch.boot
    if boot is None:
        return old
    if boot.mode is not None and boot.mode != boot_mode(facts):
        raise BadInput(f"BootSourceOverrideMode {boot.mode}: this machine has {boot_mode(facts)}")
    target = old.target if boot.target is None else boot.target
    if target not in boot_sources(facts):
        raise BadInput(f"BootSourceOverrideTarget {target}: allowed are {', '.join(boot_sources(facts))}")
    enabled = old.enabled if boot.enabled is None else boot.enabled
    if enabled is OverrideEnabled.DISABLED or target is BootSource.NONE:
        return BootOverride()
    uri = boot.http_boot_uri if "http_boot_uri" in boot.model_fields_set else old.http_boot_uri
    return BootOverride(target, enabled, uri if target is BootSource.UEFI_HTTP else None)
