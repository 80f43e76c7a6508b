"""The config bundle: opened only if a trusted key signed it for this host, and refused where it holds a path that is not declared."""

import base64
import binascii
import json
import re
from pathlib import PurePosixPath
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from .dsse import open_envelope
from .errors import AgentError
from .imagelist import is_digest
from .units import Inputs

PAYLOAD_TYPE = "application/vnd.qtrade.bundle+json"
_GENERATION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")


class BundleFile(NamedTuple):
    """A file of a bundle."""

    path: str
    mode: int
    owner: str
    group: str
    content: bytes


class Bundle(NamedTuple):
    """A config bundle whose signature was checked, with the envelope that it came in."""

    host: str
    generation: str
    image_id: str
    files: Tuple[BundleFile, ...]
    envelope: Mapping[str, Any]


def open_bundle(envelope: Mapping[str, Any], keys: Mapping[str, bytes], host: str) -> Bundle:
    """Return the bundle of an envelope that one of `keys` signed for `host`. Raises `AgentError`."""
    payload = open_envelope(envelope, PAYLOAD_TYPE, keys).payload
    try:
        fields = json.loads(payload)
        files = tuple(_parse_file(one) for one in fields["files"])
        bundle = Bundle(str(fields["host"]), str(fields["generation"]), str(fields["image"]), files, envelope)
        is_known = fields["schema_version"] == 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError(
            "bundle-invalid", f"the config bundle is malformed: {error!r}", "render it again with `qtrade push`"
        ) from error
    if not is_known or not is_digest(bundle.image_id) or _GENERATION.match(bundle.generation) is None:
        raise AgentError("bundle-invalid", "the config bundle has a bad schema_version, image or generation")
    if bundle.host != host:
        raise AgentError(
            "bundle-foreign", f"the config bundle is for {bundle.host}, this is {host}", "push the bundle of this host"
        )
    if len({one.path for one in bundle.files}) != len(bundle.files):
        raise AgentError("bundle-invalid", "the config bundle names a path twice")
    return bundle


def check_declared(bundle: Bundle, inputs: Inputs) -> None:
    """Raise `AgentError` when the bundle holds a path that the image does not declare."""
    foreign = sorted(one.path for one in bundle.files if inputs.units_of(one.path) is None)
    if foreign:
        raise AgentError(
            "path-undeclared",
            f"the image declares no config file {', '.join(foreign)}",
            "declare it in the role's config/inputs.yml",
        )


def _parse_file(fields: Mapping[str, Any]) -> BundleFile:
    path = str(fields["path"])
    pure = PurePosixPath(path)
    hidden: Optional[str] = next((part for part in pure.parts if part.startswith(".")), None)
    if pure.is_absolute() or hidden or str(pure) != path or not pure.parts or "\0" in path:
        raise AgentError("path-invalid", f"{path!r} is no plain relative path", "correct the role's config/inputs.yml")
    mode = str(fields["mode"])
    if _MODE.match(mode) is None:
        raise AgentError("bundle-invalid", f"{path}: mode {mode!r} is not like 0640")
    try:
        content = base64.b64decode(fields["content"], validate=True)
    except (binascii.Error, ValueError):
        raise AgentError("bundle-invalid", f"{path}: the content is not base64") from None
    return BundleFile(path, int(mode, 8), str(fields["owner"]), str(fields["group"]), content)
