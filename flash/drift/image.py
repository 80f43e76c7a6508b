"""Compare which image a host runs, what it boots next, and with which command line."""

import re
from collections.abc import Iterator, Sequence

from flash.drift.expected import Expected
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import Observation
from qtrade.manifest import DriftKind

_FLASH = "flash the host"
_SHOWN = 16


def compare_image(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare id, blobs, and what the initramfs said of the boot."""
    found, image = observation.image, expected.image
    if found is None:
        return
    if found.id != image.id:
        yield _image("id", "the host runs another image than its version names", image.id, found.id)
        return
    if found.kernel_release != image.kernel_release:
        yield _image("kernel", "another kernel runs", image.kernel_release, found.kernel_release)
    digests = [layer.digest for layer in image.layers]
    if list(found.mounted) != digests:
        yield _image("layers", "the root is made of other layers", _short(digests), _short(found.mounted))
    blobs = {layer.digest: layer.verity for layer in found.layers}
    for layer in image.layers:
        sealed = blobs.get(layer.digest, "missing")
        # Empty: the filesystem has no fs-verity, and the initramfs has hashed the bytes.
        if sealed not in (layer.verity, ""):
            yield _image(f"layer {layer.role}", "a blob on the disk is not the image's", layer.verity, sealed)
    if found.state != "persistent":
        yield Finding(
            DriftKind.IMAGE, "state", "the state partition is not in use", Remedy.HAND, "persistent", found.state,
            "look at its disk; what is written now is gone at the next boot",
        )  # fmt: skip
    if found.config not in ("whole", ""):
        yield Finding(
            DriftKind.CONFIG, "boot", "the host booted with another config than it was to", Remedy.PUSH, "whole", found.config
        )  # fmt: skip


def compare_boot(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare what boots next with what runs: a host that fell back runs what is not its default."""
    boot = observation.boot
    if boot is None:
        return
    if boot.default != expected.image.id:
        yield _image("default", "the default boot entry is not what runs", expected.image.id, boot.default)
    if boot.once:
        yield _image("once", "the next boot goes elsewhere", "", boot.once)
    if boot.failed_boots:
        yield _image("failed_boots", "boots of the default have failed", "0", str(boot.failed_boots))


def compare_cmdline(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the kernel's command line, of this boot and of the next, word by word."""
    found, image = observation.command_line, expected.image
    if found is None:
        return
    own = [
        "boot=qtrade",
        "ro",
        "panic=10",
        f"qtrade.image={image.id}",
        "qtrade.system=PARTUUID",
        "qtrade.state=PARTUUID",
    ]
    wanted = [*own, *image.cmdline.split(), *expected.host_cmdline.split()]
    entry = _words(found.entry)
    if entry != wanted:
        yield Finding(
            DriftKind.CMDLINE, "entry", f"the boot entry has another command line: {_difference(wanted, entry)}", Remedy.HAND,
            " ".join(wanted), " ".join(entry), f"{_FLASH} with this version again: it writes the entry anew",
        )  # fmt: skip
    running = _words(found.running)
    if running != wanted:
        # What the entry has right, a reboot brings.
        remedy = Remedy.REBOOT if entry == wanted else Remedy.HAND
        yield Finding(
            DriftKind.CMDLINE, "running", f"the kernel runs with another command line: {_difference(wanted, running)}", remedy,
            " ".join(wanted), " ".join(running), "" if remedy is Remedy.REBOOT else _FLASH,
        )  # fmt: skip


def _words(text: str) -> list[str]:
    """Return the words that count: GRUB names the kernel itself, and partitions' UUIDs are the disk's own."""
    words = [word for word in text.split() if not word.startswith("BOOT_IMAGE=")]
    return [re.sub(r"^(qtrade\.(?:system|state)=PARTUUID)=\S+$", r"\1", word) for word in words]


def _difference(wanted: list[str], found: list[str]) -> str:
    more = [f"+{word}" for word in found if word not in wanted]
    less = [f"-{word}" for word in wanted if word not in found]
    return " ".join([*more, *less]) or "the order of its words"


def _image(subject: str, what: str, expected: str, found: str) -> Finding:
    return Finding(DriftKind.IMAGE, subject, what, Remedy.HAND, expected, found, f"{_FLASH}, or roll it back")


def _short(digests: Sequence[str]) -> str:
    return " ".join(digest[:_SHOWN] for digest in digests)
