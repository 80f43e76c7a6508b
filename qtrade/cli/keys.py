"""`qtrade keys`: who may sign."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qtrade.cli.options import AsJson
from qtrade.errors import UsageError
from qtrade.reporter import print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from qtrade.trust.keyring import Keyring

RootKey = Annotated[
    Path | None, typer.Option("--root-key", help="File of the private root key; keys/root.key if left out.")
]
Expires = Annotated[int, typer.Option("--expires", min=1, help="Days until the trust set expires.")]
_EXPIRES_DAYS = 365


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    keys = typer.Typer(help="Keys: who may sign images, promotions and jobs.", no_args_is_help=True)
    for name, command in (
        ("init", init),
        ("show", show),
        ("rotate", rotate),
        ("revoke", revoke),
        ("renew", renew),
        ("request", request),
        ("admit", admit),
        ("import", import_set),
    ):
        keys.command(name)(command)
    app.add_typer(keys, name="keys")


def init(
    *,
    root_key: RootKey = None,
    spare_root: Annotated[
        Path | None, typer.Option("--spare-root", help="File of a second root key, in case the first is lost.")
    ] = None,
    expires: Expires = _EXPIRES_DAYS,
    as_json: AsJson = False,
) -> None:
    """Make root, build, promote and job key and the first trust set: `qtrade keys init --root-key /media/usb/root.key`."""
    from qtrade.trust.keyring import init_keys  # noqa: PLC0415 - keeps `qtrade --help` quick

    _show(init_keys(load_settings(), root_key=root_key, spare_root=spare_root, expires_days=expires), as_json=as_json)


def show(*, as_json: AsJson = False) -> None:
    """Show the trust set: who may sign what, and which private keys are here."""
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    _show(load_keyring(load_settings()), as_json=as_json)


def rotate(
    role: Annotated[str, typer.Argument(help="build, promote, job or root.")],
    *,
    root_key: RootKey = None,
    new_root: Annotated[
        Path | None, typer.Option("--new-root", help="With `root`: file of the new root key; made if missing.")
    ] = None,
    expires: Expires = _EXPIRES_DAYS,
    as_json: AsJson = False,
) -> None:
    """Give a role a new key. What the old one signed still holds; hosts learn of it with their next job."""
    from qtrade.trust.keyring import parse_role, rotate_key, rotate_root  # noqa: PLC0415

    settings = load_settings()
    if role == "root":
        if new_root is None:
            raise UsageError("rotate root: the new root key has no file", resolution="add --new-root FILE")
        keyring = rotate_root(settings, new_root, root_key=root_key, expires_days=expires)
    else:
        keyring = rotate_key(settings, parse_role(role), root_key=root_key, expires_days=expires)
    _show(keyring, as_json=as_json)


def revoke(
    keyid: Annotated[str, typer.Argument(help="Id of the key, or its first digits (8 or more).")],
    *,
    root_key: RootKey = None,
    expires: Expires = _EXPIRES_DAYS,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: nothing that it signed counts any more. A key that signs now gets a follower."""
    from qtrade.trust.keyring import revoke_key  # noqa: PLC0415

    _show(revoke_key(load_settings(), keyid, root_key=root_key, expires_days=expires), as_json=as_json)


def renew(
    *,
    root_key: RootKey = None,
    expires: Expires = _EXPIRES_DAYS,
    promotion_keys: Annotated[
        int | None,
        typer.Option(
            "--promotion-keys", min=1, max=2, help="How many promote keys production's hosts ask for from now on."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign the same keys again, with a later expiry."""
    from qtrade.trust.keyring import renew_trust  # noqa: PLC0415

    changed = renew_trust(load_settings(), root_key=root_key, expires_days=expires, promotion_keys=promotion_keys)
    _show(changed, as_json=as_json)


def request(
    *, to: Annotated[Path, typer.Option("--to", help="File for the public half, which whoever has the root admits.")]
) -> None:
    """Make a promote key of your own, if there is none here, and write its public half: `qtrade keys request --to anna.pem`."""
    from qtrade.trust.operators import request_key  # noqa: PLC0415

    key = request_key(load_settings())
    to.write_text(key.pem)
    typer.echo(key.keyid)


def admit(
    source: Annotated[Path, typer.Argument(help="Public key (PEM) that `keys request` wrote.")],
    *,
    root_key: RootKey = None,
    expires: Expires = _EXPIRES_DAYS,
    as_json: AsJson = False,
) -> None:
    """Let another operator's key promote beside those that do; from the second on, production asks for two."""
    from qtrade.trust.operators import admit_key  # noqa: PLC0415

    _show(admit_key(load_settings(), source, root_key=root_key, expires_days=expires), as_json=as_json)


def import_set(
    source: Annotated[Path, typer.Argument(help="trust.json of another machine.")], *, as_json: AsJson = False
) -> None:
    """Take the newer trust set that another machine has made."""
    from qtrade.trust.keyring import import_trust  # noqa: PLC0415

    _show(import_trust(load_settings(), source), as_json=as_json)


def _show(keyring: "Keyring", *, as_json: bool) -> None:
    trust = keyring.trust
    if as_json:
        document: dict[str, Any] = {**trust.model_dump(mode="json"), "here": list(keyring.here())}
        print_document("trust-set", document)
        return
    until = time.strftime("%Y-%m-%d", time.gmtime(trust.expires))
    typer.echo(f"trust set {trust.sequence}{' of a lab' if trust.lab else ''}, good until {until}, in {keyring.folder}")
    if trust.promotion_keys > 1:
        typer.echo(f"production's hosts take what {trust.promotion_keys} promote keys signed")
    retired = {f"{role}, retired": keys for role, keys in trust.retired.model_dump().items()}
    signing = {str(role): keys for role, keys in trust.by_role().items()}
    places = {"root": trust.root, **signing, **retired, "revoked": trust.revoked}
    for role, keys in places.items():
        for keyid in keys:
            note = "  (private key here)" if keyid in keyring.private_ids() else ""
            typer.echo(f"{role:16} {keyid}{note}")
