"""Bad manifests, recipes and locks: file, line, field and value are named."""

from tests.unit.bad_inputs.case import BAD, BAKE, FLASH, MISSING, USAGE, Case, add, host, put, swap
from tests.unit.bad_inputs.place import ENVIRONMENT, FIELDS, HOST, LOCK, RECIPE, render


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
        "a time of day without quotes",
        FLASH,
        BAD,
        (f"{ENVIRONMENT}:4: rollout.windows.0.start: ", "write it in quotes", "22:00 as the number 1320"),
        add(ENVIRONMENT, "rollout: {windows: [{start: 22:00}]}\n"),
    ),
    Case(
        "waves of a rollout that end before all hosts",
        FLASH,
        BAD,
        (f"{ENVIRONMENT}:4: rollout: steps go up to 100 percent",),
        add(ENVIRONMENT, "rollout: {steps: [{percent: 50}]}\n"),
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
