"""Schemas of what `--json` prints, made of the types that the commands print, and of the files that people write.

`python -m qtrade.cli.documents` writes them to docs/schemas; `make schemas` calls it. A new field is no new `schema_version`; a field
that goes or means something else is one.
"""

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from qtrade.reporter import SCHEMA_VERSION

FOLDER = Path(__file__).resolve().parents[2] / "docs/schemas"
# What a command prints in somebody else's form, or as a file of ours that has its own schema.
FOREIGN = {
    "hosts inventory": "an inventory, as Ansible reads it",
    "images sbom": "CycloneDX or SPDX",
    "images show": "the image document: `qtrade schema image`",
    "schema": "a JSON Schema",
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


class HostStatus(BaseModel):
    """`qtrade hosts show`: what the host says of itself (more fields, where it answers), its lease and its last flash."""

    model_config = ConfigDict(extra="allow")
    schema_version: Literal[1]
    document: Literal["host-status"]
    host: str
    answers: bool
    problem: str = ""
    version: str = ""
    image: str = ""
    generation: str = ""
    secret_stamps: dict[str, str] = Field(default_factory=dict)
    lease: Json | None
    flash: Json | None


def document_models() -> dict[str, type[BaseModel]]:
    """Return a model of each document by its name."""
    made = {**_of_bakes(), **_of_images(), **_of_hosts(), **_of_fleets(), **_of_benches(), **_of_upkeep()}
    return {**{name: _model(name, fields) for name, fields in made.items()}, "host-status": HostStatus}


def all_schemas() -> dict[str, Json]:
    """Return every JSON Schema by name: of files that people write, and of documents."""
    from qtrade.manifest.schemas import manifest_schemas  # noqa: PLC0415 - all of these take a while to load

    return {**manifest_schemas(), **document_schemas()}


def document_schemas() -> dict[str, Json]:
    """Return the JSON Schema of each document by its name."""
    made = document_models()
    return {name: {"$schema": _DIALECT, **_schema(model)} for name, model in sorted(made.items())}


def write_schemas(folder: Path = FOLDER) -> None:
    """Write one `<document>.schema.json` each, and remove those of documents that there are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / f"{name}.schema.json": schema for name, schema in document_schemas().items()}
    for path in set(folder.glob("*.schema.json")) - set(wanted):
        path.unlink()
    for path, schema in wanted.items():
        path.write_text(json.dumps(schema, indent=2) + "\n")


def _schema(model: type[BaseModel]) -> Json:
    return model.model_json_schema(mode="serialization")


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """Return a model with these fields, all of them required, and the two that every document has."""
    own: dict[str, Any] = {"schema_version": (Literal[SCHEMA_VERSION], ...), "document": (Literal[name], ...)}
    own |= {field: (kind, ...) for field, kind in fields.items() if field not in own}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(name, __config__=config, **own)


def _fields_of(kind: type[Any]) -> dict[str, Any]:
    """Return the fields of a dataclass or a model, with their types."""
    hints = get_type_hints(kind, include_extras=True)
    names = kind.__dataclass_fields__ if is_dataclass(kind) else kind.model_fields
    return {name: hints[name] for name in names}


def _of_bakes() -> dict[str, dict[str, Any]]:
    from bake.boot_test import BootTest  # noqa: PLC0415
    from bake.lock.difference import Change  # noqa: PLC0415
    from bake.output.outputs import Exported  # noqa: PLC0415
    from bake.plan import Step  # noqa: PLC0415

    return {
        "bake-plan": {"recipe": str, "steps": tuple[Step, ...], "expected_s": float | None},
        "bake": {"recipe": str, "version": str, "id": str, "built": tuple[str, ...], "files": tuple[str, ...]},
        "layers": {"recipe": str, "built": tuple[str, ...]},
        "lock": {
            "done": str,
            "recipe": str,
            "path": str,
            "packages": int,
            "components": dict[str, Json],
            "changes": tuple[Change, ...],
            "unbuilt": tuple[str, ...],
        },
        "export": _fields_of(Exported),
        "boot-tests": {"results": tuple[BootTest, ...]},
    }


def _of_images() -> dict[str, dict[str, Any]]:
    from bake.cve.snapshot import Snapshot  # noqa: PLC0415
    from bake.diff.compare import ImageDiff  # noqa: PLC0415
    from qtrade.store.blocks import Block  # noqa: PLC0415
    from qtrade.store.gc import Garbage  # noqa: PLC0415
    from qtrade.store.listing import ListedImage  # noqa: PLC0415
    from qtrade.trust.promotion import PromotionPlan  # noqa: PLC0415
    from qtrade.trust.proof import Check  # noqa: PLC0415
    from qtrade.trust.release import RevocationPlan  # noqa: PLC0415
    from qtrade.trust.trust_set import TrustSet  # noqa: PLC0415

    return {
        "images": {"images": tuple[ListedImage, ...]},
        "garbage": {**_fields_of(Garbage), "deleted": bool},
        "promotion": {**_fields_of(PromotionPlan), "done": bool},
        "approval": {**_fields_of(PromotionPlan), "within_days": int, "done": bool},
        "revocation": {**_fields_of(RevocationPlan), "done": bool},
        "block": _fields_of(Block),
        "proof": {
            "recipe": str,
            "version": str,
            "image_id": str,
            "checks": tuple[Check, ...],
            "statements": dict[str, int],
            "refusals": dict[str, tuple[Json, ...]],
            "holds": bool,
            "commands": tuple[str, ...],
        },
        "cve-snapshot": _fields_of(Snapshot),
        "cves": {"reports": tuple[Json, ...]},
        "image-diff": _fields_of(ImageDiff),
        "units": {"units": tuple[Json, ...]},
        "trust-set": {**_fields_of(TrustSet), "here": tuple[str, ...]},
    }


def _of_hosts() -> dict[str, dict[str, Any]]:
    from flash.discovery.first_host import InitDocument  # noqa: PLC0415
    from flash.fleet import HostList  # noqa: PLC0415
    from flash.identity.facts import Claim  # noqa: PLC0415
    from flash.maintenance import Errand  # noqa: PLC0415
    from flash.plan import FlashPlan  # noqa: PLC0415
    from flash.push import PushResult  # noqa: PLC0415
    from flash.push_plan import PushPlan  # noqa: PLC0415
    from flash.rollback import RollbackPlan, RollbackResult  # noqa: PLC0415
    from flash.run import FlashResult  # noqa: PLC0415
    from flash.verify import VerifyResult  # noqa: PLC0415

    return {
        "flash-plan": {**_fields_of(FlashPlan), "expected_s": float | None},
        "flash": _fields_of(FlashResult),
        "rollback-plan": _fields_of(RollbackPlan),
        "rollback": _fields_of(RollbackResult),
        "push-plan": _fields_of(PushPlan),
        "push": _fields_of(PushResult),
        "verification": _fields_of(VerifyResult),
        "disk-work": _fields_of(Errand),
        "host-keys": {"host": str, "pinned": str | None, "offered": str, "same": bool},
        "host-checks": {"host": str, "checks": tuple[Json, ...]},
        "config": {"host": str, "image": dict[str, str], "values": dict[str, Json]},
        "identity-claim": _fields_of(Claim),
        "identity": {
            "identity": str,
            "claim": Claim | None,
            "facts": Json,
            "allowed": bool,
            "reasons": tuple[Json, ...],
        },
        "host-list": _fields_of(HostList),
        "first-host": _fields_of(InitDocument),
        "lab": {"name": str, "bmc_pid": int | None, "qemu_pid": int | None, "up": bool},
    }


def _of_fleets() -> dict[str, dict[str, Any]]:
    from flash.drift.look import HostReport  # noqa: PLC0415
    from flash.judge.report import JudgementDocument  # noqa: PLC0415
    from flash.monitors.apply import Applied  # noqa: PLC0415
    from flash.monitors.plan import MonitorsPlan  # noqa: PLC0415
    from flash.rollout.status import RolloutStatus  # noqa: PLC0415
    from flash.rollout.undoing import UndoPlan  # noqa: PLC0415
    from flash.rollout.waves import RolloutPlan  # noqa: PLC0415
    from flash.secrets.check import SecretRow  # noqa: PLC0415

    fields: dict[str, Any] = {name: (kind, ...) for name, kind in {**_fields_of(HostReport), "drifted": bool}.items()}
    report = create_model("Report", **fields)
    return {
        "pushes": {"hosts": tuple[Json, ...]},
        "drift": {"drifted": bool, "hosts": tuple[report, ...]},  # type: ignore[valid-type]
        "judgement": _fields_of(JudgementDocument),
        "rollout-plan": _fields_of(RolloutPlan),
        "rollout": _fields_of(RolloutStatus),
        "rollout-undo": _fields_of(UndoPlan),
        "secrets": {"secrets": tuple[SecretRow, ...]},
        "secret-rotation": {"secret": str, "hosts": tuple[Json, ...]},
        "monitors-plan": _fields_of(MonitorsPlan),
        "monitors": _fields_of(Applied),
    }


def _of_benches() -> dict[str, dict[str, Any]]:
    from flash.bench.compare import Comparison  # noqa: PLC0415
    from qtrade.trust.fleet_facts import Bench, Integration  # noqa: PLC0415

    return {
        "bench": {"records": tuple[Bench, ...], "errors": tuple[Json, ...]},
        "integration": _fields_of(Integration),
        "bench-plan": {"hosts": tuple[str, ...], "environments": tuple[str, ...], "asked": Json},
        "bench-comparison": {**_fields_of(Comparison), "worse": int},
    }


def _of_upkeep() -> dict[str, dict[str, Any]]:
    from flash.history import HistoryDocument  # noqa: PLC0415
    from qtrade.upkeep.collect import Collected  # noqa: PLC0415
    from qtrade.upkeep.doctor import DoctorDocument  # noqa: PLC0415
    from qtrade.upkeep.migrate import MigrationDocument  # noqa: PLC0415
    from qtrade.upkeep.status import StatusDocument  # noqa: PLC0415
    from qtrade.upkeep.versions import VersionDocument  # noqa: PLC0415

    return {
        "history": _fields_of(HistoryDocument),
        "status": _fields_of(StatusDocument),
        "doctor": _fields_of(DoctorDocument),
        "collected": _fields_of(Collected),
        "migration": _fields_of(MigrationDocument),
        "version": _fields_of(VersionDocument),
        "workflow-inputs": {"values": dict[str, str]},
        "pull-request": {"number": int, "url": str, "new": bool, "files": tuple[str, ...]},
    }


if __name__ == "__main__":
    write_schemas()
