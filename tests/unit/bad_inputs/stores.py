"""Images, stores, keys, secrets and programs that are not what they should be."""

from collections.abc import Callable

from qtrade.manifest.image import ImageComponent
from qtrade.trust import release
from qtrade.trust.policy import Rules
from tests.unit.bad_inputs.case import BAD, CONFLICT, FLASH, MISSING, REFUSED, TOOL, TRUST, Case, host
from tests.unit.bad_inputs.place import VAULT, VERSION, Place


def damage(text: str = "{") -> Callable[[Place], None]:
    return lambda place: (place.store / VERSION).write_text(text)


def forbid_all(place: Place) -> None:
    for path in (place.store, *place.store.rglob("*")):
        if path.is_dir():
            place.forbid(path, 0o555)


def without_keys(place: Place) -> None:
    (place.settings.keys_dir / "trust.json").unlink()


def revoked(place: Place) -> None:
    room = place.room
    plan = release.plan_revocation(room.store, "demo", "0.1.0", reason="a hole", layers=(), descendants=False)
    release.revoke(room.store, room.keyring, plan, now=1)


def expired(place: Place) -> None:
    room, anything = place.room, Rules("staging", "staging", allow_standins=True, needs_cve_gate=False)
    room.say_passed("0.1.0")
    plan = release.plan_promotion(room.store, room.keyring, anything, "demo", "0.1.0", expires_days=1, now=1)
    release.promote(room.store, room.keyring, plan)
    place.set_host(environment="staging")


def with_standins(place: Place) -> None:
    room = place.room
    room.publish("0.2.0", components=(ImageComponent(name="agave", version="1", sha256="a" * 64, standin=True),))
    place.set_host(environment="production")


def vault(password: str) -> Callable[[Place], None]:
    def spoil(place: Place) -> None:
        place.encrypt(VAULT, "key: value\n", "right")
        place.settings.keys_dir.joinpath("vault-password").write_text(password)
        place.set_host(secrets={"datadog_api_key": f"vault:{VAULT}#key"})

    return spoil


STORES = (
    Case("a damaged version in the store", FLASH, TRUST, ("demo 0.1.0", "damaged"), damage()),
    Case("an unsigned image", FLASH, TRUST, ("no trusted key signed",), lambda place: place.set_version(list_sig="")),
    Case("a revoked image", "flash --host rpc-1 --version 0.1.0 --dry-run", REFUSED, ("revoked", "a hole"), revoked),
    Case(
        "an image that holds stand-ins in production",
        "flash --host rpc-1 --version 0.2.0 --dry-run",
        REFUSED,
        ("production", "stand-ins: agave"),
        with_standins,
    ),
    Case(
        "an image without a boot test for production",
        "images promote 0.1.0 --recipe demo --to production --yes",
        REFUSED,
        ("boot",),
    ),
    Case(
        "an image that staging has not seen, for production",
        "images promote 0.1.0 --recipe demo --to production --yes",
        REFUSED,
        ("no rollout of it through staging was committed", "no-load-test", "one-key", "qtrade images approve"),
        lambda place: place.room.say_passed("0.1.0"),
    ),
    Case("an expired promotion", "flash --host rpc-1 --version 0.1.0 --dry-run", REFUSED, ("expired",), expired),
    Case(
        "a store without the image",
        FLASH,
        REFUSED,
        ("the store has no image of demo", "qtrade bake"),
        lambda place: (place.store / VERSION).unlink(),
    ),
    Case(
        "a store that may not be read",
        "images list",
        1,
        ("Permission denied",),
        lambda place: place.forbid(place.store / "versions"),
    ),
    Case(
        "a store that may not be written",
        "images revoke 0.1.0 --recipe demo --reason hole --yes",
        1,
        ("Permission denied",),
        forbid_all,
    ),
    Case(
        "a store that does not answer",
        "images list",
        1,
        ("127.0.0.1:9", "QTRADE_S3_ENDPOINT"),
        lambda place: place.environment.update(
            QTRADE_STORE="s3://images",
            QTRADE_S3_ENDPOINT="http://127.0.0.1:9",
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_MAX_ATTEMPTS="1",
        ),
    ),
)

KEYS = (
    Case(
        "a file that is no operator's key",
        "keys admit anna.pem",
        BAD,
        ("anna.pem holds no public key", "qtrade keys request"),
        lambda place: place.write("anna.pem", "none"),
    ),
    Case("no keys", "keys show", MISSING, ("no trust set", "qtrade keys init"), without_keys),
    Case("keys that are there already", "keys init", CONFLICT, ("trust set already", "QTRADE_STATE_DIR")),
    Case(
        "a damaged trust set",
        FLASH,
        TRUST,
        ("trust.json", "damaged"),
        lambda place: (place.settings.keys_dir / "trust.json").write_text("{"),
    ),
    Case(
        "a root key that is not here",
        "keys rotate build --root-key /nonexistent/root.key",
        MISSING,
        ("/nonexistent/root.key", "--root-key"),
    ),
    Case("a key that nobody knows", "keys revoke 0123456789", MISSING, ("0123456789", "qtrade keys show")),
    Case(
        "no password for the vault",
        "secrets check --host rpc-1",
        MISSING,
        ("ANSIBLE_VAULT_PASSWORD_FILE",),
        lambda place: (vault("right")(place), place.settings.keys_dir.joinpath("vault-password").unlink())[0],
    ),
    Case("a wrong password for the vault", "secrets check --host rpc-1", BAD, (VAULT, "password"), vault("wrong")),
    Case(
        "a vault file of another environment",
        "secrets check --host rpc-1",
        REFUSED,
        ("secrets/production.yml", "development"),
        host(secrets={"datadog_api_key": "vault:secrets/production.yml#key"}),
    ),
    Case(
        "a secret whose variable is not set",
        "secrets check --host rpc-1",
        MISSING,
        ("env:QTRADE_NOT_SET",),
        host(secrets={"datadog_api_key": "env:QTRADE_NOT_SET"}),
    ),
)

TOOLS = (
    Case(
        "a program that is not installed",
        "hosts keys --host rpc-1",
        TOOL,
        (
            "ssh-keyscan is not installed",
            "openssh-client",
        ),
        lambda place: setattr(place, "path", "/nonexistent"),
    ),
    Case(
        "no tools root",
        "images export 0.1.0 --recipe demo --output raw",
        TOOL,
        ("the tools root is missing", "qtrade tools"),
    ),
    Case(
        "a state directory of another account",
        "bake --recipe demo --version 1",
        1,
        (".state", "Permission denied", "account"),
        lambda place: place.forbid(place.settings.state_dir, 0o555),
    ),
)
