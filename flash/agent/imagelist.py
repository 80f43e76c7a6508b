"""The image list: the text whose SHA-256 is the image id."""

import hashlib
import re
from typing import List, NamedTuple, Tuple

from .errors import AgentError

_HEAD = "qtrade-image 1"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_ROLE = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z")
# What GRUB passes on as it stands: none of its quotes, separators or expansions.
CMDLINE = re.compile(r"[A-Za-z0-9_.,:=/@%+\- ]*\Z")


class Blob(NamedTuple):
    """A file by content; `verity` is the fs-verity digest, empty for kernels and initrds; `role` is for messages."""

    sha256: str
    size_bytes: int
    verity: str
    role: str

    @property
    def path(self) -> str:
        """Return its place below the system partition."""
        return f"layers/{self.sha256}.erofs" if self.verity else f"boot/{self.sha256}"


class ImageList(NamedTuple):
    """A parsed image list."""

    image_id: str
    layers: Tuple[Blob, ...]
    kernel: Blob
    initrd: Blob
    cmdline: str

    @property
    def blobs(self) -> Tuple[Blob, ...]:
        """Return everything that the image needs."""
        return (*self.layers, self.kernel, self.initrd)

    @property
    def size_bytes(self) -> int:
        """Return the size of all blobs together."""
        return sum({blob.sha256: blob.size_bytes for blob in self.blobs}.values())


def is_digest(text: str) -> bool:
    """Say whether `text` is 64 lower-case hex digits."""
    return _DIGEST.match(text) is not None


def parse_list(text: str) -> ImageList:
    """Parse an image list. Raises `AgentError` naming the line that is wrong."""
    lines = text.splitlines()
    if not lines or lines[0] != _HEAD or not text.endswith("\n"):
        raise AgentError("list-invalid", f"the image list does not begin with {_HEAD!r} or lacks its last newline")
    layers: List[Blob] = []
    singles = {}
    cmdline = None
    for number, line in enumerate(lines[1:], start=2):
        word, _, rest = line.partition(" ")
        if word == "cmdline" and cmdline is None:
            cmdline = rest
        elif word == "layer":
            layers.append(_parse_layer(number, rest.split(" ")))
        elif word in ("kernel", "initrd") and word not in singles:
            singles[word] = _parse_boot_file(number, word, rest.split(" "))
        else:
            raise AgentError("list-invalid", f"line {number} of the image list: unexpected {word!r}")
    if not layers or cmdline is None or len(singles) != 2:
        raise AgentError("list-invalid", "the image list needs a layer, a kernel, an initrd and a cmdline")
    return ImageList(
        hashlib.sha256(text.encode()).hexdigest(),
        tuple(layers),
        singles["kernel"],
        singles["initrd"],
        check_cmdline(cmdline),
    )


def check_cmdline(text: str) -> str:
    """Return a kernel command line that GRUB passes on unchanged. Raises `AgentError` for any other."""
    if CMDLINE.match(text) is None:
        raise AgentError(
            "cmdline-invalid",
            f"the kernel command line {text!r} holds characters that GRUB would interpret",
            "use letters, digits and _ . , : = / @ % + - only",
        )
    return text


def _parse_layer(number: int, words: List[str]) -> Blob:
    if len(words) != 4 or not is_digest(words[2]) or _ROLE.match(words[3]) is None:
        raise AgentError(
            "list-invalid", f"line {number} of the image list: expected layer <sha256> <size> <verity> <role>"
        )
    return Blob(*_parse_content(number, words[0], words[1]), verity=words[2], role=words[3])


def _parse_boot_file(number: int, word: str, words: List[str]) -> Blob:
    if len(words) != 2:
        raise AgentError("list-invalid", f"line {number} of the image list: expected {word} <sha256> <size>")
    return Blob(*_parse_content(number, words[0], words[1]), verity="", role=word)


def _parse_content(number: int, digest: str, size: str) -> Tuple[str, int]:
    if not is_digest(digest) or not size.isdigit() or not size.isascii():
        raise AgentError("list-invalid", f"line {number} of the image list: bad digest or size")
    return digest, int(size)
