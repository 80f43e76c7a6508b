"""Says and writes what an installed OS disk holds, for a disk that is made in a file: `python -m flash.disk_contents`.

The agent's own functions do it, so that a disk image and a disk that the installer wrote follow one source. It is a program because
bake imports nothing of flash: JSON on stdin says what to make, files appear in `folder`, JSON on stdout says the rest.

stdin   {"image": {"id", "version", "list", "sig" (base64), "image_json"}, "trust": [PEM, …], "grub": "<folder>", "folder": "<folder>",
         "layout": {"esp_mib", "system_mib"}, "disk_uuid", "part_uuids": [4 of them], "cmdline": "",
         "config": null or {"host", "values"}}
folder  esp/ and system/ (blobs aside): the partitions' files; boot.img, core.img: GRUB's BIOS part, told where it lies
stdout  {"table": "<sfdisk script>", "formats": {"esp", "system", "state": [program, arguments…]}, "blobs": {path: sha256, …},
         "config": [{"path", "mode", "owner", "group", "content"}, …]}          config files as they are in a bundle

A fault is told in one line on stderr, with exit code 1.
"""

import base64
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash.agent import bios, boot, ed25519, images, ondisk, partition
from flash.agent.errors import AgentError
from flash.agent.imagelist import parse_list
from flash.agent.job import Image as AgentImage
from flash.agent.job import Layout
from flash.config import render_bundle
from qtrade.errors import QtradeError
from qtrade.manifest import Image


@dataclass(frozen=True)
class Values:
    """A host or an environment as far as config is concerned."""

    name: str
    config: dict[str, Any]
    role: str = ""
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Write the files that `request` asks for and return the answer. Raises `AgentError`, `BadInput`."""
    image = _read_image(request["image"])
    folder, grub = Path(request["folder"]), Path(request["grub"])
    ids = tuple(request["part_uuids"])
    layout = Layout(**request["layout"])
    _write_esp(folder / "esp", grub, image)
    _write_system(folder / "system", image, request, ids)
    lba = ondisk.MIB // ondisk.SECTOR
    (folder / "boot.img").write_bytes(bios.patch_boot((grub / "boot.img").read_bytes(), lba))
    (folder / "core.img").write_bytes(bios.patch_core((grub / "core.img").read_bytes(), lba))
    return {
        "table": partition.render_table(layout, request["disk_uuid"], (ids[0], ids[1], ids[2], ids[3])),
        "formats": {
            "esp": partition.ESP_FORMAT,
            "system": partition.SYSTEM_FORMAT,
            "state": partition.STATE_FORMAT,
        },
        "blobs": {blob.path: blob.sha256 for blob in image.contents.blobs},
        "config": _render_config(request["config"], image),
    }


def _read_image(fields: dict[str, str]) -> AgentImage:
    contents = parse_list(fields["list"])
    signature = base64.b64decode(fields["sig"])
    return AgentImage(fields["id"], fields["version"], fields["list"], signature, fields["image_json"], contents)


def _write_esp(esp: Path, grub: Path, image: AgentImage) -> None:
    esp.mkdir()
    boot.prepare_esp(esp, grub)
    boot.write_once(esp, "")
    boot.write_default(esp, image.image_id, "")


def _write_system(system: Path, image: AgentImage, request: dict[str, Any], ids: tuple[str, ...]) -> None:
    system.mkdir()
    _write_trust(system / "trust", request["trust"])
    images.write_image(system, image)
    images.write_entry(system, image.image_id, boot.render_entry(image.contents, ids[2], ids[3], request["cmdline"]))


def _write_trust(folder: Path, pems: list[str]) -> None:
    folder.mkdir()
    for pem in pems:
        raw = ed25519.raw_key(pem)
        if raw is None:
            raise AgentError("key-invalid", "a trusted key is no Ed25519 public key in PEM")
        (folder / f"{ed25519.key_id(raw)}.pem").write_text(pem)


def _render_config(config: dict[str, Any] | None, image: AgentImage) -> list[dict[str, Any]]:
    if config is None:
        return []
    host = Values(config["host"], config["values"])
    bundle = render_bundle(host, Values("", {}), Image.model_validate_json(image.image_json))
    files: list[dict[str, Any]] = bundle.payload(1)["files"]
    return files


def main() -> int:
    """Answer the one request on stdin; the exit code is 0, or 1 with the fault on stderr."""
    try:
        answer = make(json.load(sys.stdin))
    except AgentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except QtradeError as error:
        sys.stderr.write(f"{error.render()}\n")
        return 1
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
