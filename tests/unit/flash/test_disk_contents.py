"""What a disk image holds is what the agent would have written."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flash.agent import bios, boot, images, partition
from flash.agent.imagelist import parse_list
from qtrade.signing import SigningKey
from tests.fakes.examples import make_image

pytestmark = pytest.mark.unit

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(1, 5)]


@pytest.fixture
def request_(tmp_path: Path) -> dict[str, Any]:
    """A request for the demo image."""
    image = make_image()
    grub = tmp_path / "grub"
    grub.mkdir()
    for name, size in (("boot.img", 512), ("core.img", 3000), ("BOOTX64.EFI", 10), ("grub.cfg", 20)):
        (grub / name).write_bytes(b"g" * size)
    text = image.list_text()
    return {
        "image": {
            "id": image.id,
            "version": image.version,
            "list": text,
            "sig": base64.b64encode(KEY.sign(text.encode())).decode(),
            "image_json": image.to_json(),
        },
        "trust": [KEY.public.pem],
        "grub": str(grub),
        "folder": str(tmp_path),
        "layout": {"esp_mib": 64, "system_mib": 1024},
        "disk_uuid": "00000000-0000-0000-0000-000000000000",
        "part_uuids": IDS,
        "cmdline": "",
        "config": None,
    }


def ask(request: dict[str, Any], *, code: int = 0) -> str:
    """Run the program; return its stdout, or its stderr when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "flash.disk_contents"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_partitions_hold_what_the_agent_reads(request_: dict[str, Any], tmp_path: Path) -> None:
    answer = json.loads(ask(request_))
    contents = parse_list(request_["image"]["list"])
    system, esp = tmp_path / "system", tmp_path / "esp"
    assert images.installed(system) == [contents.image_id]
    folder = system / "images" / contents.image_id
    assert (folder / "entry.cfg").read_text() == boot.render_entry(contents, IDS[2], IDS[3], "")
    assert (folder / "list").read_text() == request_["image"]["list"]
    assert [path.name for path in (system / "trust").iterdir()] == [f"{KEY.public.keyid}.pem"]
    assert boot.read_state(esp) == boot.BootState(contents.image_id)
    assert (esp / "grub/grub.cfg").read_bytes() == b"g" * 20
    assert answer["blobs"] == {blob.path: blob.sha256 for blob in contents.blobs}
    assert answer["formats"]["system"] == list(partition.SYSTEM_FORMAT)
    assert answer["table"].count("uuid=") == 4


def test_boot_code_is_told_where_the_rest_lies(request_: dict[str, Any], tmp_path: Path) -> None:
    ask(request_)
    assert (tmp_path / "boot.img").read_bytes() == bios.patch_boot(b"g" * 512, 2048)
    assert (tmp_path / "core.img").read_bytes() == bios.patch_core(b"g" * 3000, 2048)


def test_fault_is_told_without_a_traceback(request_: dict[str, Any]) -> None:
    request_["trust"] = ["no key"]
    said = ask(request_, code=1)
    assert said.startswith("key-invalid:")
    assert "Traceback" not in said
