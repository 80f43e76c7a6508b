"""What the seal looks for, from `bake/seal/scan.py` and manifests/seal.yaml. The reasons stand here; a test holds that none is missing."""

import ast
import inspect
from collections.abc import Iterator

from bake.seal import scan
from bake.seal.allow import load_policy
from docs.site.pages.table import code, table
from qtrade.settings import Settings

PATH_REASONS = {
    "etc/ssh/ssh_host_*": "Hosts with the same key can pose as each other. A host makes its own.",
    "etc/ssl/private/*": "Debian makes a snakeoil key there when a package is installed.",
    "etc/hostname": "The name of the machine that baked.",
    "var/lib/dbus/machine-id": "Two hosts with one id get each other's leases and logs.",
    "var/lib/systemd/random-seed": "The same seed on all hosts is no randomness.",
    "var/lib/systemd/credential.secret": "The key that encrypts a host's credentials.",
    "*/PG_VERSION": "A PostgreSQL cluster; its system identifier must be a host's own.",
    "*/.bash_history": "What was typed while baking.",
    "*/.ansible/*": "What Ansible leaves behind.",
    "*/.ssh/authorized_keys": "Who may log in is config, never image.",
    "*/.ssh/id_*": "A person's or a deploy's private key.",
    "*/.aws/credentials": "Somebody's login.",
    "*/.docker/config.json": "Somebody's login.",
    "*/.netrc": "Somebody's login.",
    "*/.pgpass": "Somebody's login.",
    "*/.vault-token": "Somebody's login.",
    "*/id.json": "Where Solana's tools put a key pair.",
    "*validator-keypair*.json": "The usual name of a validator's identity.",
    "*vote-account-keypair*.json": "The usual name of a vote account's key.",
    "root/.config/solana/*": "Config of Solana's tools, and their default key pair.",
    "usr/sbin/policy-rc.d": "Keeps services down while baking; on a host it would keep them down for good.",
    "etc/dpkg/dpkg.cfg.d/qtrade-bake": "The bake's own setting of dpkg.",
}

CONTENT_REASONS = {
    "a private key (PEM)": "TLS, SSH and other keys, whatever the file is called.",
    "an ansible-vault file": "Encrypted secrets have no place in an image either.",
    "a GitHub token": "Tokens for private releases are used when locking only.",
    "a Vault token": "Opens HashiCorp Vault.",
    "an AWS access key": "Opens the store, or more.",
    "a Slack token": "Often left in scripts.",
    "a Datadog key": "Hosts get theirs as a credential.",
    "a gRPC token": "The x-token of Yellowstone; hosts get theirs as a credential.",
    "a Solana keypair (64 numbers)": "The form that Solana's tools write: whoever has it signs as the validator.",
    "a Solana keypair (base58)": "The form that wallets export; only what proves to be a pair is reported.",
    "a lone key of 32 hex digits": "A file that holds nothing else: an API key, or a machine id.",
    "a machine id": "`etc/machine-id` must read `uninitialized`.",
    "a password, or an account that needs none": "Nobody logs in to a host by password.",
    "a file of a machine or of the bake": "One of the paths above.",
}


_PAGE = """# Seal list

An image is the same on every host, and many people can read it. So nothing in it may be a secret, or belong to one machine. The seal looks
through every finished layer and every initial RAM filesystem, all files and all bytes, before a blob reaches a store. What it finds ends
the bake, named by layer and path, never by value. It looks at what was baked, not at what the roles meant to do.

## Paths

No image may hold a file at:

{paths}
## Contents

No file, text or not, may hold:

{contents}
## Owners

Each file belongs to a user and a group of [`manifests/ids.yaml`](../../manifests/ids.yaml). Ids are fixed and never used again, so that
files on data disks keep their owner when the image changes.

## What may stay

[`manifests/seal.yaml`](../../manifests/seal.yaml) lists each exception with its reason. Changing it is a reviewed change like any other.

{allowed}
## What it cannot find

A secret in a form that is not listed here, one that is encrypted or compressed inside a file, or a short password. It is a net below the
rule that roles get no secrets, not in its place: Packer and Ansible are given none while baking, and a test plants canaries and looks for
them in everything that a bake leaves behind.
"""


def render_seal(settings: Settings) -> str:
    """Return the page."""
    policy = load_policy(settings.project / "manifests/seal.yaml")
    return _PAGE.format(
        paths=table(("path", "why"), ((code(path), PATH_REASONS[path]) for path in scan.FORBIDDEN)),
        contents=table(("what", "why"), ((what, CONTENT_REASONS[what]) for what in findings())),
        allowed=table(("path", "what", "why"), ((code(one.path), one.what, one.reason) for one in policy.allow)),
    )


def findings() -> tuple[str, ...]:
    """Return what the scan can report of a file's content, in its own words and the order of its code."""
    tree = ast.parse(inspect.getsource(scan))
    return tuple(dict.fromkeys(text for node in ast.walk(tree) for text in _said(node)))


def _said(node: ast.AST) -> Iterator[str]:
    """Yield the findings that a tuple of signs or a `yield` of the scan names."""
    values: list[ast.expr] = []
    if isinstance(node, ast.Yield) and node.value is not None:
        values = node.value.elts[1:] if isinstance(node.value, ast.Tuple) else [node.value]
    elif (
        isinstance(node, ast.Tuple) and len(node.elts) == 3
    ):  # the parts of a `Sign`: its name, its pattern, what stands in front
        values = node.elts[:1]
    yield from (one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str))
