"""Whether KVM really works here: the device may open, and even create guests, on a CPU that cannot run them."""

import os
from pathlib import Path

from qtrade import process
from qtrade.errors import ToolError
from qtrade.toolsroot import ToolsRoot

KVM = ("-accel", "kvm", "-cpu", "host")
TCG = ("-accel", "tcg,thread=multi", "-cpu", "max")
_KVM_DEVICE = Path("/dev/kvm")
_PROBE_TIMEOUT_S = 3.0
_EXIT_CODE_LONG_MODE = 33

# The guest is a firmware of 64 KiB: it switches the CPU to 64-bit mode and only there computes 0x10, which it writes to
# the exit port 0xf4; QEMU then ends with code 0x10 * 2 + 1.
_GUEST = bytes.fromhex(
    "fa31c08ed08ec08ed8fc"  # cli; ss = es = ds = 0; cld
    "bf0010b90030f3aa"  # clear 0x1000..0x3fff for the page tables
    "66c706001003200000"  # PML4[0] -> 0x2000
    "66c706002003300000"  # PDPT[0] -> 0x3000
    "66c706003083000000"  # PD[0]: 2 MiB at 0
    "b800f08ed8be7700bf0040b94000f3a4"  # copy the 64-bit part from 0x77 of the firmware to 0x4000
    "2e660f0116a000"  # lgdt cs:0xa0
    "66b8a00000000f22e0"  # cr4 = PAE | PGE
    "66b8001000000f22d8"  # cr3 = 0x1000
    "66b9800000c00f32660d000100000f30"  # EFER |= LME
    "66b8010000800f22c0"  # cr0 = PG | PE
    "66ea004000000800"  # far jump to 8:0x4000
    "48b8100000000100000048c1e82048c1e004"  # 64-bit part: rax = (0x100000010 >> 32) << 4
    "e6f4f4ebfd6690"  # out 0xf4, al; halt for ever
    "0000000000000000"  # 0x90: GDT: empty, 64-bit code
    "00000000009a2000"
    "0f0090000f000000"  # 0xa0: its size and address
)
_RESET_VECTOR = bytes.fromhex("ea000000f0f40000")  # 0xfff0: far jump to f000:0000
_FIRMWARE_BYTES = 0x10000


def probe_accelerator(tools: ToolsRoot, *, cache: Path) -> tuple[str, ...]:
    """Return QEMU's arguments for the quickest accelerator that works on this machine.

    The answer is kept in the folder `cache` until the machine boots again: a probe that fails takes three seconds.
    """
    if not os.access(_KVM_DEVICE, os.R_OK | os.W_OK):
        return TCG
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache / "accelerator"
    words = answer.read_text().split() if answer.is_file() else []
    if len(words) != 2 or words[0] != boot_id:
        words = [boot_id, "kvm" if runs_guest(tools, KVM, folder=answer.parent) else "tcg"]
        fresh = answer.with_suffix(f".{os.getpid()}")
        fresh.write_text(" ".join(words))
        fresh.replace(answer)
    return KVM if words[1] == "kvm" else TCG


def runs_guest(tools: ToolsRoot, accelerator: tuple[str, ...], *, folder: Path) -> bool:
    """Say whether `accelerator` runs 64-bit code: a guest of a few instructions must end by itself, at once."""
    folder.mkdir(parents=True, exist_ok=True)
    firmware = folder / f"probe.{os.getpid()}.rom"
    firmware.write_bytes(_GUEST.ljust(_FIRMWARE_BYTES - 16, b"\0") + _RESET_VECTOR.ljust(16, b"\0"))
    try:
        argv = tools.argv(
            "qemu-system-x86_64",
            *("-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc", "-m", "16", "-no-reboot"),
            *accelerator,
            *("-L", tools.root / "usr/share/qemu", "-bios", firmware),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        )
        # A probe that hangs must not outlive a command that is killed.
        prefix = tools.argv("setpriv", "--pdeathsig", "KILL", "--")
        done = process.run([*prefix, *argv], timeout_s=_PROBE_TIMEOUT_S, check=False)
    except ToolError:
        return False
    finally:
        firmware.unlink()
    return done.returncode == _EXIT_CODE_LONG_MODE
