"""Look through the files of one mounted layer for secrets, identities and unlisted owners.

A program of its own (`python -m bake.seal.scan FOLDER IDS REPORT`), standard library only, since it runs in the private namespaces where
the layer is mounted. IDS is a JSON file `{"uids": [...], "gids": [...]}`; the report is a JSON list of `{"path", "what"}`.
"""

import json
import mmap
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from fnmatch import translate
from pathlib import Path

# Paths. Sources: systemd "Building Images Safely", cloud-init clean, virt-sysprep, and what two mmdebstrap runs differ in.
FORBIDDEN = (
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/*",
    "etc/hostname",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "*/PG_VERSION",
    "*/.bash_history",
    "*/.ansible/*",
    "*/.ssh/authorized_keys",
    "*/.ssh/id_*",
    "*/.aws/credentials",
    "*/.docker/config.json",
    "*/.netrc",
    "*/.pgpass",
    "*/.vault-token",
    "*/id.json",
    "*validator-keypair*.json",
    "*vote-account-keypair*.json",
    "root/.config/solana/*",
    "usr/sbin/policy-rc.d",
    "etc/dpkg/dpkg.cfg.d/qtrade-bake",
)
_FORBIDDEN = re.compile("|".join(f"(?:{translate(pattern)})" for pattern in FORBIDDEN))

# Contents of any file, text or not. A pattern begins with a literal, which makes the search quick; what must stand in front of
# it is looked at where it was found.
Sign = tuple[str, re.Pattern[bytes], re.Pattern[bytes]]
_WORD = re.compile(rb"(?<!\w)\Z")
_ANYTHING = re.compile(rb"")
_SIGNS: tuple[Sign, ...] = (
    (
        "a private key (PEM)",
        re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[\w-]+: .*\s+)*[A-Za-z0-9+/=]{32}"),
        _ANYTHING,
    ),
    ("an ansible-vault file", re.compile(rb"\$ANSIBLE_VAULT;\d\.\d;AES256\s[\s0-9a-f]{64}"), _ANYTHING),
    ("a GitHub token", re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}\b"), _WORD),
    ("a GitHub token", re.compile(rb"github_pat_\w{40}"), _WORD),
    ("a Vault token", re.compile(rb"hvs\.[\w-]{60}"), _WORD),
    ("an AWS access key", re.compile(rb"AKIA[0-9A-Z]{16}\b"), _WORD),
    ("a Slack token", re.compile(rb"xox[abprs]-[\w-]{20}"), _WORD),
)
# Contents of text files, in small letters.
_TEXT_SIGNS: tuple[Sign, ...] = (
    (
        "a Datadog key",
        re.compile(rb"key[\"']?\s*[:=]\s*[\"']?(?:[0-9a-f]{32}|[0-9a-f]{40})\b"),
        re.compile(rb"(?:\b|_)(?:api|app|application)[_-]?\Z"),
    ),
    ("a gRPC token", re.compile(rb"token[\"']?\s*[:=]\s*[\"']?[\w.~+/-]{16}"), re.compile(rb"\bx[-_]\Z")),
)
_FRONT = 64
_NUMBERS = re.compile(rb"\[\s*\d{1,3}(?:\s*,\s*\d{1,3}){63}\s*\]")
_LONE_KEY = re.compile(rb"\s*[0-9a-f]{32}\s*")
_BASE58 = re.compile(rb"(?<![1-9A-HJ-NP-Za-km-z])[1-9A-HJ-NP-Za-km-z]{86,88}(?![1-9A-HJ-NP-Za-km-z])")
_ALPHABET = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# A text with each base58 digit made "1" is searched for a long run much more quickly than a pattern finds it.
_DIGITS = bytes(ord("1") if byte in _ALPHABET else ord(" ") for byte in range(256))
_LONG_RUN = b"1" * 86
_TEXT_LIMIT = 8 << 20


def scan(root: Path, uids: frozenset[int], gids: frozenset[int]) -> Iterator[tuple[str, str]]:
    """Yield `(path, what)` for everything below `root` that no image may hold. Paths are relative to it."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in (*sorted(files), *folders):
            whole = os.path.join(folder, name)  # noqa: PTH118 - tens of thousands of them
            path = os.path.relpath(whole, root)
            facts = os.lstat(whole)
            if facts.st_uid not in uids:
                yield path, f"owner {facts.st_uid}, which manifests/ids.yaml does not list"
            if facts.st_gid not in gids:
                yield path, f"group {facts.st_gid}, which manifests/ids.yaml does not list"
            if not stat.S_ISREG(facts.st_mode):
                continue
            if is_forbidden(path):
                yield path, "a file of a machine or of the bake"
            if facts.st_size:
                for what in _scan_file(whole, path):
                    yield path, what


def _scan_file(whole: str, path: str) -> Iterator[str]:
    with open(whole, "rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:  # noqa: PTH123
        yield from find_in_content(content, path)


def is_forbidden(path: str) -> bool:
    """Return whether no image may hold a file at `path`, whatever is in it."""
    return _FORBIDDEN.match(path) is not None


def find_in_content(content: "mmap.mmap | bytes", path: str) -> Iterator[str]:
    """Yield what a file at `path` holds that no image may."""
    yield from _find_signs(content, _SIGNS)
    head = content[:4096]
    if b"\0" not in head and len(content) <= _TEXT_LIMIT:
        yield from find_in_text(content[:], path)


def _find_signs(content: "mmap.mmap | bytes", signs: Iterable[Sign]) -> Iterator[str]:
    for what, pattern, front in signs:
        found = pattern.search(content)
        while found and not front.search(content[max(0, found.start() - _FRONT) : found.start()]):
            found = pattern.search(content, found.start() + 1)
        if found:
            yield what


def find_in_text(text: bytes, path: str) -> Iterator[str]:
    """Yield what a text file at `path` holds that no image may."""
    yield from _find_signs(text.lower(), _TEXT_SIGNS)
    if any(all(int(number) < 256 for number in re.findall(rb"\d+", found[0])) for found in _NUMBERS.finditer(text)):
        yield "a Solana keypair (64 numbers)"
    if path != "etc/machine-id" and _LONE_KEY.fullmatch(text):
        yield "a lone key of 32 hex digits"
    if _LONG_RUN in text.translate(_DIGITS) and any(_is_solana_secret(found[0]) for found in _BASE58.finditer(text)):
        yield "a Solana keypair (base58)"
    if path == "etc/machine-id" and text != b"uninitialized\n":
        yield "a machine id"
    if path in ("etc/shadow", "etc/gshadow") and any(
        line.split(b":")[1:2] not in ([b"*"], [b"!"], [b"!*"], [b"!!"]) for line in text.splitlines()
    ):
        yield "a password, or an account that needs none"


def _is_solana_secret(text: bytes) -> bool:
    """Return whether base58 `text` is a seed followed by its own public key: chance cannot make one."""
    number = 0
    for digit in text:
        number = number * 58 + _ALPHABET.index(digit)
    try:
        pair = number.to_bytes(64, "big")
    except OverflowError:
        return False
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - rarely needed, slow to load

    return Ed25519PrivateKey.from_private_bytes(pair[:32]).public_key().public_bytes_raw() == pair[32:]


def main() -> None:
    """Scan and write the report."""
    folder, ids, report = (Path(argument) for argument in sys.argv[1:4])
    known = json.loads(ids.read_text())
    found = scan(folder, frozenset(known["uids"]), frozenset(known["gids"]))
    report.write_text(json.dumps([{"path": path, "what": what} for path, what in found]))


if __name__ == "__main__":
    main()
