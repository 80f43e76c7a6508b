"""What no image may hold is found in the files of a layer, by path and finding and never by value."""

import base64
import json
import os
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bake.seal.allow import SealPolicy, load_policy
from bake.seal.overlap import check_overlaps
from bake.seal.scan import FORBIDDEN, scan
from qtrade.errors import BadInput, Refused
from qtrade.settings import load_settings
from tests.fakes.examples import make_recipe

pytestmark = pytest.mark.unit

HERE = (frozenset({os.getuid()}), frozenset({os.getgid()}))
PATH_FINDING = "a file of a machine or of the bake"

# One path for each forbidden pattern, and one that only looks like it.
EXAMPLES = {
    "etc/ssh/ssh_host_*": ("etc/ssh/ssh_host_ed25519_key", "etc/ssh/sshd_config"),
    "etc/hostname": ("etc/hostname", "etc/hostname.md"),
    "etc/ssl/private/*": ("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ca.pem"),
    "var/lib/dbus/machine-id": ("var/lib/dbus/machine-id", "etc/machine-id"),
    "var/lib/systemd/random-seed": ("var/lib/systemd/random-seed", "usr/lib/systemd/systemd-random-seed"),
    "var/lib/systemd/credential.secret": ("var/lib/systemd/credential.secret", "usr/lib/credential.secret.md"),
    "*/PG_VERSION": ("var/lib/postgresql/17/main/PG_VERSION", "usr/lib/PG_VERSION.txt"),
    "*/.bash_history": ("root/.bash_history", "etc/bash_history"),
    "*/.ansible/*": ("root/.ansible/tmp/x", "etc/ansible/hosts"),
    "*/.ssh/authorized_keys": ("home/x/.ssh/authorized_keys", "etc/ssh/authorized_keys"),
    "*/.ssh/id_*": ("root/.ssh/id_ed25519", "etc/ssh/id_x"),
    "*/.aws/credentials": ("root/.aws/credentials", "usr/share/aws/credentials"),
    "*/.docker/config.json": ("root/.docker/config.json", "etc/docker/config.json"),
    "*/.netrc": ("root/.netrc", "etc/netrc"),
    "*/.pgpass": ("home/x/.pgpass", "etc/pgpass"),
    "*/.vault-token": ("root/.vault-token", "etc/vault-token"),
    "*/id.json": ("opt/agave/id.json", "opt/agave/kid.json"),
    "*validator-keypair*.json": ("opt/x/validator-keypair-1.json", "opt/x/validator-keypair.md"),
    "*vote-account-keypair*.json": ("srv/vote-account-keypair.json", "srv/vote-account.json"),
    "root/.config/solana/*": ("root/.config/solana/cli/config.yml", "root/.config/other"),
    "usr/sbin/policy-rc.d": ("usr/sbin/policy-rc.d", "usr/sbin/policy"),
    "etc/dpkg/dpkg.cfg.d/qtrade-bake": ("etc/dpkg/dpkg.cfg.d/qtrade-bake", "etc/dpkg/dpkg.cfg.d/local"),
}


@pytest.fixture
def layer(tmp_path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/motd").write_text("hello")
    return tmp_path


def put(layer: Path, path: str, content: str | bytes = "x") -> None:
    target = layer / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)


def find(layer: Path) -> list[tuple[str, str]]:
    return list(scan(layer, *HERE))


def test_every_pattern_has_an_example() -> None:
    assert set(EXAMPLES) == set(FORBIDDEN)


@pytest.mark.parametrize("pattern", EXAMPLES)
def test_a_forbidden_path_is_found_and_its_likeness_is_not(layer, pattern) -> None:
    bad, good = EXAMPLES[pattern]
    put(layer, good, "uninitialized\n")
    assert find(layer) == []
    put(layer, bad)
    assert find(layer) == [(bad, PATH_FINDING)]


def test_a_link_or_an_empty_folder_with_a_forbidden_name_holds_nothing(layer) -> None:
    (layer / "etc/hostname").symlink_to("../run/hostname")
    (layer / "etc/ssl/private").mkdir(parents=True)
    assert find(layer) == []


def keypair() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw() + key.public_key().public_bytes_raw()


def base58(data: bytes) -> str:
    digits, number = "", int.from_bytes(data, "big")
    while number:
        number, digit = divmod(number, 58)
        digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + digits
    return digits


def pem(form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, form, NoEncryption())


HEX = "".join(random.Random(1).choices("0123456789abcdef", k=40))
SECRETS: dict[str, tuple[str, bytes]] = {
    "validator keypair": ("a Solana keypair (64 numbers)", json.dumps(list(keypair())).encode()),
    "keypair over lines": ("a Solana keypair (64 numbers)", json.dumps({"k": list(range(64))}, indent=1).encode()),
    "keypair in base58": ("a Solana keypair (base58)", f"SECRET={base58(keypair())}\n".encode()),
    "PKCS8": ("a private key (PEM)", pem()),
    "OpenSSH": ("a private key (PEM)", pem(PrivateFormat.OpenSSH)),
    "PEM in a binary": ("a private key (PEM)", b"\x7fELF\0" + bytes(10_000_000) + pem()),
    "encrypted RSA": (
        "a private key (PEM)",
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\n"
        + base64.b64encode(bytes(48)),
    ),
    "Datadog in YAML": ("a Datadog key", f"api_key: {HEX[:32]}\n".encode()),
    "Datadog in the environment": ("a Datadog key", f"DD_API_KEY={HEX[:32]}\n".encode()),
    "Datadog in JSON": ("a Datadog key", f'{{"api_key": "{HEX[:32]}"}}'.encode()),
    "Datadog application key": ("a Datadog key", f"app_key: '{HEX}'".encode()),
    "a file that is a key": ("a lone key of 32 hex digits", f"{HEX[:32]}\n".encode()),
    "gRPC token": ("a gRPC token", b'{"x_token": "a9f8e7d6c5b4a3f2e1"}'),
    "vault": ("an ansible-vault file", f"$ANSIBLE_VAULT;1.1;AES256\n{HEX}{HEX}\n".encode()),
    "GitHub token": ("a GitHub token", b"token ghp_" + b"a1" * 18),
    "fine-grained GitHub token": ("a GitHub token", b"github_pat_" + b"a1" * 25),
    "Vault token": ("a Vault token", b"hvs." + b"Ab1" * 30),
    "AWS": ("an AWS access key", b"aws_access_key_id = AKIAIOSFODNN7EXAMPLE"),
    "AWS behind what is none": ("an AWS access key", b"xAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLE"),
    "Slack": ("a Slack token", b"xoxb-" + b"123456789012-abcdefgh"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_wherever_it_lies_and_its_value_is_not_told(layer, kind) -> None:
    what, content = SECRETS[kind]
    put(layer, "usr/share/doc/x", content)
    found = find(layer)
    assert found == [("usr/share/doc/x", what)]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(list(range(63))),
        json.dumps(list(range(65))),
        json.dumps([*range(63), 256]),
        "-----BEGIN PRIVATE KEY-----\n(your key here)\n",
        "-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(bytes(48)).decode(),
        "api_key: ${DD_API_KEY}",
        f"md5sum {HEX[:32]}  file",
        f"{HEX}\n",
        'x_token = "${X_TOKEN}"',
        base58(bytes(range(1, 65))),
    ],
    ids=[
        "63",
        "65",
        "no byte",
        "PEM placeholder",
        "public",
        "variable",
        "checksum",
        "sha1",
        "token variable",
        "base58",
    ],
)
def test_what_only_looks_like_a_secret_is_let_pass(layer, content) -> None:
    put(layer, "etc/x.conf", content)
    assert find(layer) == []


@pytest.mark.parametrize(
    ("path", "good", "bad", "what"),
    [
        ("etc/machine-id", "uninitialized\n", "b642b4217b34b1e8d3bd915fc65c4452\n", "a machine id"),
        ("etc/machine-id", "uninitialized\n", "x", "a machine id"),
        (
            "etc/shadow",
            "root:*:1::::::\nx:!:1::::::\n",
            "root:$y$j9T$abc$def:1::::::\n",
            "a password, or an account that needs none",
        ),
        (
            "etc/shadow",
            "root:!*:1::::::\n",
            "root:*:1::::::\nx::1::::::\n",
            "a password, or an account that needs none",
        ),
    ],
)
def test_files_that_must_say_just_this(layer, path, good, bad, what) -> None:
    put(layer, path, good)
    assert find(layer) == []
    put(layer, path, bad)
    assert (path, what) in find(layer)


def test_an_owner_that_the_table_does_not_list_is_found(layer) -> None:
    found = list(scan(layer, frozenset({4711}), HERE[1]))
    assert found == [
        (path, f"owner {os.getuid()}, which manifests/ids.yaml does not list") for path in ("etc", "etc/motd")
    ]
    found = list(scan(layer, HERE[0], frozenset({4711})))
    assert found[0] == ("etc", f"group {os.getgid()}, which manifests/ids.yaml does not list")


def test_a_finding_may_stay_only_with_its_reason(tmp_path) -> None:
    path = tmp_path / "seal.yaml"
    assert not load_policy(path).allows("usr/lib/x.so.1", "a private key (PEM)")
    entry = "{path: usr/lib/x.so.*, what: a private key (PEM), reason: the self-test of the library}"
    path.write_text(f"schema_version: 1\nallow:\n  - {entry}\n")
    policy = load_policy(path)
    assert policy.allows("usr/lib/x.so.1", "a private key (PEM)")
    assert not policy.allows("usr/lib/x.so.1", "a Datadog key")
    assert not policy.allows("usr/lib/y.so.1", "a private key (PEM)")
    path.write_text("schema_version: 1\nallow:\n  - {path: usr/lib/x.so.*, what: a private key (PEM)}\n")
    with pytest.raises(BadInput, match=r"seal\.yaml"):
        load_policy(path)


def test_the_project_lets_pass_what_it_names() -> None:
    assert isinstance(load_policy(load_settings().project / "manifests/seal.yaml"), SealPolicy)


def check(**paths: tuple[str, ...]) -> None:
    check_overlaps(make_recipe(), paths)


def test_unrelated_layers_may_not_touch_one_path() -> None:
    with pytest.raises(Refused) as caught:
        check(app=("f etc/x y.conf",), tool=("f etc/x y.conf",))
    assert caught.value.details == "  app and tool: etc/x y.conf"
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "lines",
    [
        ("d 0755:0:0 etc/x", "d 0700:0:0 etc/x"),
        ("d 0755:0:0 etc/x", "d 0755:1:0 etc/x"),
        ("d 0755:0:0 etc/x", "f etc/x"),
    ],
    ids=["mode", "owner", "kind"],
)
def test_unrelated_layers_may_not_differ_over_a_folder(lines) -> None:
    with pytest.raises(Refused):
        check(tool=(lines[0],), top=(lines[1],))


def test_unrelated_layers_may_share_an_equal_folder() -> None:
    check(app=("d 0755:0:0 etc/x", "f etc/x/a"), tool=("d 0755:0:0 etc/x", "f etc/x/b"))


@pytest.mark.parametrize(("lower", "upper"), [("base", "tool"), ("host", "app"), ("host", "top"), ("app", "top")])
def test_a_layer_may_change_what_it_stands_on(lower, upper) -> None:
    paths = {lower: ("f etc/x", "d 0755:0:0 srv"), upper: ("f etc/x", "d 0700:0:0 srv")}
    check(**paths)
    check(**dict(reversed(paths.items())))
