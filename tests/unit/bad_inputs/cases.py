"""Bad inputs: what is spoiled, what is typed, the class of the error, and where the fault lies."""

from collections.abc import Callable
from dataclasses import dataclass

from qtrade.manifest.image import ImageComponent
from qtrade.trust import release
from qtrade.trust.policy import Rules
from tests.unit.bad_inputs.place import ENVIRONMENT, FIELDS, HOST, LOCK, RECIPE, VAULT, VERSION, Place, render

FLASH = "flash --host rpc-1 --dry-run"
BAKE = "bake --recipe demo --version 1 --dry-run"
USAGE, BAD, MISSING, TOOL, TRUST, REFUSED, CONFLICT = 2, 3, 4, 5, 6, 7, 8


@dataclass(frozen=True)
class Case:
    """One bad input. `says` are words that the user must see: file and line, field, value, or the near miss."""

    what: str
    command: str
    code: int
    says: tuple[str, ...]
    spoil: Callable[[Place], None] = lambda place: None

    @property
    def name(self) -> str:
        return self.what.replace(" ", "-")


def put(name: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.write(name, text)


def swap(name: str, old: str, new: str) -> Callable[[Place], None]:
    return lambda place: place.replace(name, old, new)


def add(name: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.append(name, text)


def host(name: str = "rpc-1", **changes: object) -> Callable[[Place], None]:
    return lambda place: place.set_host(name, **changes)


def env(**values: str) -> Callable[[Place], None]:
    return lambda place: place.environment.update({f"QTRADE_{name}": value for name, value in values.items()})


def line(text: str) -> int:
    """Return the line of the host's manifest that begins with `text`."""
    return 1 + next(n for n, one in enumerate(render(FIELDS).splitlines()) if one.startswith(text))


MANIFESTS = (
    Case(
        "a tab in a manifest",
        FLASH,
        BAD,
        (f"{HOST}:2: a tab", "spaces"),
        put(HOST, "schema_version: 1\n\tname: rpc-1\n"),
    ),
    Case(
        "brackets that nobody closes",
        FLASH,
        BAD,
        (f"{HOST}:3: ", "from line 2 on"),
        put(HOST, "name: rpc-1\ndoors: [in_place\naddress: x\n"),
    ),
    Case(
        "a key that stands twice",
        FLASH,
        BAD,
        (f"{HOST}:{line('config') + 1}: role: stands twice",),
        add(HOST, "role: rpc\n"),
    ),
    Case(
        "an unknown field with a near miss",
        FLASH,
        BAD,
        (f"{HOST}:{line('address')}: adress: unknown field; did you mean address?", "address: is required"),
        swap(HOST, "address:", "adress:"),
    ),
    Case(
        "an unknown field inside another",
        FLASH,
        BAD,
        ("os_disk.seriall: unknown field; did you mean serial?",),
        host(os_disk={"seriall": "OS-1", "size_bytes": 1, "wwid": "eui.9"}),
    ),
    Case("a field that is missing", FLASH, BAD, (f"{HOST}:1: os_disk: is required",), host(os_disk=None)),
    Case("a word where a number belongs", FLASH, BAD, ("ssh.port: ", "(found 'many')"), host(ssh={"port": "many"})),
    Case("a port beyond 65535", FLASH, BAD, ("ssh.port: ", "(found 70000)"), host(ssh={"port": 70000})),
    Case(
        "a role with a typing error",
        FLASH,
        BAD,
        (f"{HOST}:{line('role')}: role: must be rpc or validator; did you mean validator?", "'validater'"),
        host(role="validater"),
    ),
    Case(
        "an environment that does not exist",
        FLASH,
        BAD,
        ("environment: must be development, staging or production", "'prod'"),
        host(environment="prod"),
    ),
    Case(
        "a driver that does not exist",
        FLASH,
        BAD,
        ("driver: must be", "did you mean redfish?"),
        host(driver={"kind": "redfsh"}),
    ),
    Case(
        "a door that the driver does not open",
        FLASH,
        BAD,
        (f"{HOST}:{line('driver')}: driver ssh does not open door pxe", "in_place"),
        host(doors=["pxe"]),
    ),
    Case(
        "a door with a typing error",
        FLASH,
        BAD,
        (f"{HOST}:{line('doors') + 1}: doors.0: must be", "did you mean in_place?"),
        host(doors=["inplace"]),
    ),
    Case(
        "a MAC address that is none",
        FLASH,
        BAD,
        ("netboot.mac: must be a MAC address", "'52:54'"),
        host(netboot={"port": 1, "url": "http://a", "mac": "52:54"}),
    ),
    Case(
        "an OS disk with one identifier",
        FLASH,
        BAD,
        ("at least two of serial, wwid, size_bytes, pci_path",),
        host(os_disk={"serial": "OS-1"}),
    ),
    Case(
        "an OS disk that is protected too",
        FLASH,
        BAD,
        (f"{HOST}:{line('os_disk')}: os_disk.serial LEDGER-1 is also a protected or data disk",),
        host(os_disk={"serial": "LEDGER-1", "size_bytes": 1}),
    ),
    Case(
        "a newer format of manifests",
        FLASH,
        BAD,
        (f"{HOST}:1: schema_version: ", "(found 2)", "newer"),
        host(schema_version=2),
    ),
    Case(
        "a secret in place of its reference",
        "secrets check --host rpc-1",
        BAD,
        ("hunter2",)[:0],
        host(secrets={"datadog_api_key": "hunter2-hunter2"}),
    ),
    Case(
        "a manifest that is not text",
        FLASH,
        BAD,
        (HOST, "UTF-8"),
        lambda place: (place.project / HOST).write_bytes(b"name: \xff\xfe"),
    ),
    Case("a manifest that is empty", FLASH, BAD, (f"{HOST}:1: found nothing", "schema_version: 1"), put(HOST, "")),
    Case(
        "a manifest that is a list", FLASH, BAD, (f"{HOST}:1: found", "schema_version: 1"), put(HOST, "- name: rpc-1\n")
    ),
    Case("a manifest of another host", FLASH, BAD, (HOST, "rpc-2.yaml"), swap(HOST, "name: rpc-1", "name: rpc-2")),
    Case(
        "a manifest that may not be read",
        FLASH,
        BAD,
        (HOST, "Permission denied"),
        lambda place: place.forbid(place.project / HOST),
    ),
    Case(
        "two hosts with one address",
        FLASH,
        BAD,
        (HOST, "rpc-2.yaml", "address 192.0.2.10"),
        host("rpc-2", os_disk={"serial": "OS-2", "size_bytes": 1}, protected_disks=None),
    ),
    Case(
        "two hosts with one disk",
        FLASH,
        BAD,
        (HOST, "rpc-2.yaml", "disk serial OS-1"),
        host("rpc-2", address="192.0.2.99", protected_disks=None),
    ),
    Case(
        "an environment with an unknown field",
        FLASH,
        BAD,
        (f"{ENVIRONMENT}:4: soak: unknown field; did you mean soak_s?",),
        add(ENVIRONMENT, "soak: 3\n"),
    ),
    Case(
        "a recipe with a wrong value",
        BAKE,
        BAD,
        (f"{RECIPE}:", "epoch: ", "(found -5)"),
        swap(RECIPE, "1763856000", "-5"),
    ),
    Case(
        "a layer that needs a later one",
        BAKE,
        BAD,
        (RECIPE, "layer app needs ghost"),
        swap(RECIPE, "- host\n", "- ghost\n"),
    ),
    Case(
        "a layer without a role",
        BAKE,
        USAGE,
        ("layer top has no role", "ansible/roles/top"),
        lambda place: (place.project / "ansible/roles/top").rmdir(),
    ),
    Case(
        "a component whose folder is missing",
        BAKE,
        MISSING,
        ("components.agent.path", "does not exist"),
        lambda place: (place.project / "agent").rename(place.project / "agnt"),
    ),
    Case("a recipe under another name", BAKE, BAD, (RECIPE, "name: demon"), swap(RECIPE, "name: demo", "name: demon")),
    Case(
        "a recipe that is not locked",
        BAKE,
        MISSING,
        (LOCK, "qtrade lock --recipe demo"),
        lambda place: (place.project / LOCK).unlink(),
    ),
    Case(
        "a lock that does not fit the recipe",
        BAKE,
        BAD,
        ("packages of host", "qtrade lock --recipe demo"),
        swap(RECIPE, "- chrony", "- chronyd"),
    ),
    Case("a lock that is cut off", BAKE, BAD, (LOCK, "qtrade lock"), put(LOCK, '{"schema_version": 1, "rec')),
)

FLAGS = (
    Case(
        "a host with a typing error",
        "flash --host rpc1 --dry-run",
        MISSING,
        ("there is no host rpc1", "did you mean rpc-1?"),
    ),
    Case(
        "a recipe with a typing error",
        "bake --recipe dmo --version 1",
        MISSING,
        ("there is no recipe 'dmo'", "did you mean demo?"),
    ),
    Case(
        "a path in place of a name",
        "bake --recipe ../../etc/passwd --version 1",
        MISSING,
        ("there is no recipe '../../etc/passwd'",),
    ),
    Case("a version that was never baked", "flash --host rpc-1 --version 9.9.9 --dry-run", MISSING, ("9.9.9", "0.1.0")),
    Case("a version that is no version", "bake --recipe demo --version 1/2", USAGE, ("'1/2' is no version",)),
    Case("a bake without a version", "bake --recipe demo", USAGE, ("--version 0.1.0",)),
    Case(
        "a layer that the recipe lacks", "bake --recipe demo --only tol", USAGE, ("no layer tol", "did you mean tool?")
    ),
    Case(
        "an output that does not exist",
        "bake --recipe demo --version 1 --output raww",
        USAGE,
        ("raww", "did you mean raw?"),
    ),
    Case(
        "a door that does not exist", "flash --host rpc-1 --door window", USAGE, ("there is no door window", "in_place")
    ),
    Case(
        "a state that does not exist", "flash --host rpc-1 --yes --until AMRED", USAGE, ("AMRED", "did you mean ARMED?")
    ),
    Case(
        "a channel that does not exist", "images promote 0.1.0 --recipe demo --to prod", USAGE, ("prod", "production")
    ),
    Case("an option with a typing error", "flash --hots rpc-1", USAGE, ("--hots", "--host")),
    Case("a command with a typing error", "flsh", USAGE, ("flsh", "flash")),
    Case("a number out of range", "drift --host rpc-1 --every 1", USAGE, ("--every", "30")),
    Case("both of two that exclude each other", "push --host rpc-1 --env development", USAGE, ("--host or --env",)),
    Case("nobody at the keyboard to ask", "rollback --host rpc-1", USAGE, ("nobody can be asked", "--yes")),
    Case(
        "a day that is none",
        "images waive CVE-2026-1234 --package zlib --reason unreachable --expires tomorrow --recipe demo",
        USAGE,
        ("expires", "'tomorrow'", "YYYY-MM-DD"),
    ),
    Case("firmware that does not exist", "lab up --firmware efi", USAGE, ("efi", "uefi")),
    Case("a role of keys that does not exist", "keys rotate bild", USAGE, ("bild", "did you mean build?")),
    Case("a secret that no host names", "secrets rotate ghost --host rpc-1 --dry-run", MISSING, ("ghost",)),
    Case("a schema that does not exist", "schema hosts", MISSING, ("hosts", "did you mean host?")),
)

ENVIRONMENTS = (
    Case(
        "QTRADE_PROJECT that is no folder",
        "hosts list",
        BAD,
        ("QTRADE_PROJECT is '/nonexistent'",),
        env(PROJECT="/nonexistent"),
    ),
    Case(
        "QTRADE_STATE_DIR that mounts cannot name",
        "hosts list",
        BAD,
        ("','", "QTRADE_STATE_DIR"),
        env(STATE_DIR="/srv/a,b"),
    ),
    Case(
        "QTRADE_STATE_DIR that is a file",
        "keys init",
        BAD,
        ("QTRADE_STATE_DIR", "manifests/ids.yaml"),
        lambda place: place.environment.update(QTRADE_STATE_DIR=str(place.project / "manifests/ids.yaml")),
    ),
    Case(
        "QTRADE_STORE of an unknown kind",
        "images list",
        BAD,
        ("QTRADE_STORE is 'ftp://images'", "s3://bucket/prefix"),
        env(STORE="ftp://images"),
    ),
    Case(
        "QTRADE_S3_ENDPOINT that is no URL",
        "images list",
        BAD,
        ("QTRADE_S3_ENDPOINT is 's3.example.org'",),
        env(STORE="s3://images", S3_ENDPOINT="s3.example.org"),
    ),
    Case(
        "QTRADE_S3_CHECKSUMS of an unknown kind",
        "images list",
        BAD,
        ("QTRADE_S3_CHECKSUMS is 'never'", "when_required"),
        env(STORE="s3://images", S3_CHECKSUMS="never"),
    ),
    Case("QTRADE_LOG of an unknown kind", "hosts list", BAD, ("QTRADE_LOG is 'xml'", "json"), env(LOG="xml")),
)


def damage(text: str = "{") -> Callable[[Place], None]:
    return lambda place: (place.store / VERSION).write_text(text)


def forbid_all(place: Place) -> None:
    place.lend_keys()
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


GROUPS = {
    "Manifests": MANIFESTS,
    "The command line": FLAGS,
    "Environment variables": ENVIRONMENTS,
    "Images and the store": STORES,
    "Keys and secrets": KEYS,
    "Programs": TOOLS,
}
CASES = [case for group in GROUPS.values() for case in group]
