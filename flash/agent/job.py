"""The job: what the controller tells the agent. Parsed strictly, once; the rest of the agent sees typed values only."""

import re
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple

from . import dsse
from .chunks import NONE, ChunkLists, parse_chunks
from .errors import AgentError
from .fields import (
    invalid_field,
    read_bytes,
    read_digest,
    read_flag,
    read_matching,
    read_number,
    read_object,
    read_objects,
    read_text,
    read_url,
)
from .imagelist import ImageList, check_cmdline, parse_list

PAYLOAD_TYPE = "application/vnd.qtrade.job+json"
IDENTIFIERS = ("serial", "wwid", "size_bytes", "pci_path")

# What each kind must hold; everything else of the format is optional for it.
_NEEDS: Dict[str, FrozenSet[str]] = {
    "install": frozenset({"image", "source", "report", "os_disk", "layout", "trust", "environment"}),
    "stage": frozenset({"image", "source"}),
    "arm": frozenset({"image_id"}),
    "commit": frozenset({"image_id"}),
    "apply": frozenset({"bundle"}),
    "restore": frozenset({"generation"}),
    "confirm": frozenset({"confirms"}),
    **{kind: frozenset() for kind in ("reboot", "drain", "undrain", "secret")},
    "prepare_disks": frozenset({"report", "os_disk", "data", "trust"}),
    "decommission": frozenset({"report", "os_disk", "trust"}),
    "kexec": frozenset({"source", "boot"}),
}
_ALWAYS = frozenset({"schema_version", "kind", "host", "nonce", "issued_at"})
_KNOWN = _ALWAYS | {
    "image", "image_id", "require_running", "source", "report", "os_disk", "protected", "data", "layout", "cmdline", "trust",
    "bundle", "secret", "secrets", "environment", "allow_older", "adopt", "remake_system", "wipe_state", "lease", "boot",
    "confirm_within_s", "confirms", "generation", "forget",
}  # fmt: skip
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SECRET = re.compile(r"[a-z0-9][a-z0-9_]{0,63}\Z")


class Image(NamedTuple):
    """An image to be put on the disk."""

    image_id: str
    version: str
    list_text: str
    signature: bytes
    image_json: str
    contents: ImageList
    promotion: Optional[Mapping[str, Any]] = None
    chunks: ChunkLists = NONE


class DiskId(NamedTuple):
    """How a disk is named; None is not given."""

    serial: Optional[str] = None
    wwid: Optional[str] = None
    size_bytes: Optional[int] = None
    pci_path: Optional[str] = None
    fs_uuid: Optional[str] = None

    def describe(self) -> str:
        """Return the identifiers that are given, for messages."""
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items() if value is not None)


class Layout(NamedTuple):
    """Sizes of the partitions in MiB; the state partition takes the rest."""

    esp_mib: int
    system_mib: int


class Secret(NamedTuple):
    """A secret by name."""

    name: str
    value: bytes


class Job(NamedTuple):
    """A job whose signature was checked. Which of the optional parts are there depends on `kind`, see `_NEEDS`."""

    kind: str
    host: str
    nonce: str
    issued_at: int
    image: Optional[Image]
    image_id: str
    require_running: bool
    source: str
    report: str
    os_disk: Optional[DiskId]
    protected: Tuple[DiskId, ...]
    data: Tuple[DiskId, ...]
    layout: Optional[Layout]
    cmdline: str
    environment: str
    allow_older: bool
    adopt: str
    remake_system: bool
    wipe_state: bool
    bundle: Optional[Mapping[str, Any]]
    secrets: Tuple[Secret, ...]
    forget: Tuple[str, ...] = ()
    lease: int = 0
    boot: Optional[Mapping[str, Any]] = None
    confirm_within_s: int = 0
    confirms: str = ""
    generation: str = ""


def open_job(envelope: Any, keys: Mapping[str, bytes]) -> Job:
    """Return the job of an envelope that one of `keys` signed. Raises `AgentError`."""
    return parse_job(dsse.open_envelope(envelope, PAYLOAD_TYPE, keys).payload)


def parse_job(payload: bytes) -> Job:
    """Parse and validate a job. Raises `AgentError` naming the field, what was found and what is allowed."""
    fields = dsse.load_object(payload)
    if fields.get("schema_version") != 1:
        raise invalid_field("schema_version", fields.get("schema_version"), "1")
    kind = read_text(fields, "kind")
    if kind not in _NEEDS:
        raise invalid_field("kind", kind, " or ".join(sorted(_NEEDS)))
    missing = sorted((_ALWAYS | _NEEDS[kind]) - set(fields))
    if missing:
        raise AgentError("job-invalid", f"a job of kind {kind} lacks {', '.join(missing)}")
    if unknown := sorted(set(fields) - _KNOWN):
        raise AgentError(
            "job-invalid", f"the job holds unknown fields: {', '.join(unknown)}", "update the agent on the host"
        )
    read_object(fields, "trust")  # Which keys count was decided by it before the job was opened; here its shape counts.
    image = _parse_image(fields["image"]) if "image" in fields else None
    return Job(
        kind=kind,
        host=read_matching(fields, "host", _HOST, "a host name"),
        nonce=read_digest(fields, "nonce"),
        issued_at=read_number(fields, "issued_at"),
        image=image,
        image_id=read_digest(fields, "image_id") if "image_id" in fields else (image.image_id if image else ""),
        require_running=read_flag(fields, "require_running", default=True),
        source=read_url(fields, "source"),
        report=read_url(fields, "report"),
        os_disk=parse_os_disk(read_object(fields, "os_disk")) if "os_disk" in fields else None,
        protected=_disks(fields, "protected"),
        data=_disks(fields, "data"),
        layout=_parse_layout(read_object(fields, "layout")) if "layout" in fields else None,
        cmdline=check_cmdline(read_text(fields, "cmdline", default="")),
        environment=_parse_environment(fields),
        allow_older=read_flag(fields, "allow_older", default=False),
        adopt=read_text(fields, "adopt", default=""),
        remake_system=read_flag(fields, "remake_system", default=False),
        wipe_state=read_flag(fields, "wipe_state", default=False),
        bundle=read_object(fields, "bundle") if "bundle" in fields else None,
        secrets=_parse_secrets(fields, kind),
        forget=_parse_forgotten(fields),
        boot=read_object(fields, "boot") if "boot" in fields else None,
        lease=read_number(fields, "lease") if "lease" in fields else 0,
        confirm_within_s=read_number(fields, "confirm_within_s") if "confirm_within_s" in fields else 0,
        confirms=read_digest(fields, "confirms") if "confirms" in fields else "",
        generation=read_text(fields, "generation", default=""),
    )


def parse_os_disk(fields: Dict[str, Any]) -> DiskId:
    """Parse the binding of the OS disk. Raises `AgentError` when fewer than two identifiers are given."""
    disk = _parse_disk("os_disk", fields)
    given = [name for name in IDENTIFIERS if getattr(disk, name) is not None]
    if len(given) < 2:
        raise AgentError(
            "job-invalid",
            f"os_disk gives {', '.join(given) or 'nothing'}; one identifier alone may fit a wrong disk",
            f"give at least two of {', '.join(IDENTIFIERS)} in the host's manifest",
        )
    return disk


def _parse_disk(where: str, fields: Dict[str, Any]) -> DiskId:
    def text(name: str) -> Optional[str]:
        return read_text(fields, name).strip() or None if fields.get(name) is not None else None

    size = read_number(fields, "size_bytes") if fields.get("size_bytes") is not None else None
    disk = DiskId(text("serial"), text("wwid"), size, text("pci_path"), text("fs_uuid"))
    if disk == DiskId():
        raise AgentError("job-invalid", f"{where} names no disk", "give its serial or wwid")
    return disk


def _disks(fields: Dict[str, Any], name: str) -> Tuple[DiskId, ...]:
    return tuple(_parse_disk(f"{name}[{index}]", one) for index, one in enumerate(read_objects(fields, name)))


def _parse_image(value: Any) -> Image:
    if not isinstance(value, dict):
        raise invalid_field("image", value, "an object")
    text = read_text(value, "list")
    contents = parse_list(text)
    image_id = read_digest(value, "id")
    if contents.image_id != image_id:
        raise AgentError(
            "image-invalid",
            f"the list has the id {contents.image_id}, the job says {image_id}",
            "bake or publish again",
        )
    signature = read_bytes(value, "sig")
    promotion = read_object(value, "promotion") if value.get("promotion") is not None else None
    image_json = read_text(value, "image_json", default="")
    chunks = parse_chunks(value.get("chunks"))
    return Image(image_id, read_text(value, "version"), text, signature, image_json, contents, promotion, chunks)


def _parse_environment(fields: Dict[str, Any]) -> str:
    value = read_text(fields, "environment", default="")
    if value not in ("", "development", "staging", "production"):
        raise invalid_field("environment", value, "development, staging or production")
    return value


def _parse_layout(fields: Dict[str, Any]) -> Layout:
    layout = Layout(read_number(fields, "esp_mib"), read_number(fields, "system_mib"))
    if layout.esp_mib < 33 or layout.system_mib < 128:
        raise AgentError(
            "job-invalid",
            f"layout {layout.esp_mib}+{layout.system_mib} MiB is too small",
            "give the ESP 33 and the system 128 MiB",
        )
    return layout


def _parse_secrets(fields: Dict[str, Any], kind: str) -> Tuple[Secret, ...]:
    """Return the secrets of `secrets`, and the one of `secret`, which older controllers send."""
    given = [*read_objects(fields, "secrets"), *([read_object(fields, "secret")] if "secret" in fields else [])]
    found = tuple(Secret(read_matching(one, "name", _SECRET, "a-z, 0-9, _"), read_bytes(one, "value")) for one in given)
    if len({one.name for one in found}) != len(found) or (kind == "secret" and not found and not fields.get("forget")):
        raise AgentError("job-invalid", "the job holds no secret, or two values of one", "send one of each")
    return found


def _parse_forgotten(fields: Dict[str, Any]) -> Tuple[str, ...]:
    found = fields.get("forget", [])
    if not isinstance(found, list) or not all(isinstance(one, str) and _SECRET.match(one) for one in found):
        raise invalid_field("forget", found, "a list of names of secrets")
    return tuple(found)
