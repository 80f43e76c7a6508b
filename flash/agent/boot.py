"""The boot choice on the ESP: which image is the default, which one boots once, how many boots failed.

`state.a` and `state.b` are copies with a checksum each, b written and flushed before a; `once` is shared with GRUB, which clears the
id before it boots it and counts boots. All are GRUB environment blocks, overwritten in place (see grub.cfg for why).
"""

import hashlib
import re
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from . import durable
from .errors import AgentError
from .imagelist import ImageList, is_digest

_HEAD = "# GRUB Environment Block\n"
_SIZE = 1024
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (state\.[ab])\n")
# What GRUB adds to `tries` per boot; three of the default, then three of the previous image.
TRY = "i"
TRIES_PER_IMAGE = 3


class BootState(NamedTuple):
    """The ids that GRUB chooses from; `previous` and `once` may be empty."""

    default: str
    previous: str = ""
    once: str = ""
    tries: int = 0

    @property
    def fell_back(self) -> bool:
        """Say whether GRUB gave the default up and boots the previous image."""
        return self.tries >= TRIES_PER_IMAGE


def format_block(variables: Dict[str, str]) -> bytes:
    """Return a GRUB environment block. Its first sector holds all of it."""
    text = _HEAD + "".join(f"{name}={value}\n" for name, value in variables.items())
    if len(text) > _SIZE // 2:
        raise AgentError("boot-state-large", f"the boot state has {len(text)} bytes, one sector holds {_SIZE // 2}")
    return text.encode().ljust(_SIZE, b"#")


def parse_block(data: bytes) -> Optional[Dict[str, str]]:
    """Return the variables of a GRUB environment block, None when it is none."""
    if len(data) != _SIZE or not data.startswith(_HEAD.encode()):
        return None
    lines = data[len(_HEAD) :].decode("ascii", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def read_state(esp: Path) -> BootState:
    """Return what GRUB would read from the ESP. Raises `AgentError` when neither copy is usable."""
    variables = _read_copy(esp, "a") or _read_copy(esp, "b")
    if variables is None:
        raise AgentError("boot-state-lost", "neither state.a nor state.b on the ESP is whole", "install the host again")
    once = parse_block(_read(esp / "grub/once")) or {}
    return BootState(
        variables["default"], variables.get("previous", ""), once.get("once", ""), len(once.get("tries", ""))
    )


def write_default(esp: Path, default: str, previous: str) -> None:
    """Make `default` what boots from now on: the last step of an installation and of a commit."""
    for copy in ("b", "a"):
        name = f"state.{copy}"
        block = format_block({"default": default, "previous": previous})
        durable.overwrite(esp / "grub" / name, block)
        durable.overwrite(esp / "grub" / f"{name}.sum", f"{hashlib.sha256(block).hexdigest()}  {name}\n".encode())


def write_once(esp: Path, once: str, tries: int = 0) -> None:
    """Let GRUB boot `once` at the next start only (empty: nothing special), and set the count of tries."""
    durable.overwrite(esp / "grub/once", format_block({"once": once, "tries": TRY * tries}))


def note_success(esp: Path, running: str) -> BootState:
    """Take the tries of the running image off: all if it is the default; those of the previous image only, if GRUB fell back to it."""
    state = read_state(esp)
    tries = state.tries
    if running == state.default:
        tries = 0
    elif running == state.previous and state.fell_back:
        tries = TRIES_PER_IMAGE
    if tries != state.tries:
        write_once(esp, state.once, tries)
    return state._replace(tries=tries)


def commit(esp: Path, image_id: str) -> BootState:
    """Make `image_id` the default and the old default the previous one, unless that one had failed."""
    state = read_state(esp)
    if image_id == state.default:
        previous = state.previous
    else:
        previous = state.previous if state.fell_back and state.previous != image_id else state.default
    write_default(esp, image_id, previous)
    write_once(esp, "", 0)
    return BootState(image_id, previous)


def prepare_esp(esp: Path, grub: Path) -> None:
    """Write what is written once: the UEFI program and grub.cfg."""
    (esp / "EFI/BOOT").mkdir(parents=True, exist_ok=True)
    (esp / "grub").mkdir(exist_ok=True)
    for source, target in (("grub.cfg", "grub/grub.cfg"), ("BOOTX64.EFI", "EFI/BOOT/BOOTX64.EFI")):
        data = (grub / source).read_bytes()
        if _read(esp / target) != data:
            durable.write_on_fat(esp / target, data)


def render_entry(image: ImageList, system_uuid: str, state_uuid: str, host_cmdline: str) -> str:
    """Return entry.cfg, which GRUB sources with its root on the system partition. `panic` makes a kernel panic fall back too."""
    arguments = (
        f"boot=qtrade ro panic=10 qtrade.image={image.image_id} qtrade.system=PARTUUID={system_uuid} "
        f"qtrade.state=PARTUUID={state_uuid} {image.cmdline} {host_cmdline}"
    ).strip()
    return (
        f"if linux /{image.kernel.path} {arguments}; then\n  if initrd /{image.initrd.path}; then\n    boot\n  fi\nfi\n"
    )


def _read_copy(esp: Path, copy: str) -> Optional[Dict[str, str]]:
    name = f"state.{copy}"
    block = _read(esp / "grub" / name)
    found = _SUM_LINE.fullmatch(_read(esp / "grub" / f"{name}.sum").decode("ascii", "replace"))
    if found is None or found.group(2) != name or found.group(1) != hashlib.sha256(block).hexdigest():
        return None
    variables = parse_block(block)
    return variables if variables and is_digest(variables.get("default", "")) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
