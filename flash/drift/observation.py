"""What the agent of a host says of it (flash/agent/observe.py), as typed values. A newer agent may say more than this reads."""

from pydantic import BaseModel, ConfigDict, ValidationError

from qtrade.errors import HostError


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class Layer(_Part):
    """A blob of the running image; `verity` is empty where the file has none."""

    digest: str
    verity: str


class ImagePart(_Part):
    """What was booted, by the words of the initramfs; `mounted` are the digests under the root, the lowest first."""

    id: str
    version: str
    verified: str
    state: str
    config: str
    kernel_release: str
    layers: tuple[Layer, ...]
    mounted: tuple[str, ...]


class BootPart(_Part):
    """What boots next."""

    default: str
    previous: str
    once: str
    failed_boots: int


class FileChange(_Part):
    """An entry of the upper directory that differs from the image."""

    path: str
    change: str
    type: str
    was: str
    now: str


class FilesPart(_Part):
    """The upper directory; `total` counts also what is not listed."""

    total: int
    changes: tuple[FileChange, ...]


class PackageChange(_Part):
    """A package whose version or state differs; empty stands for none."""

    package: str
    was: str
    now: str


class ConfigFacts(_Part):
    """One file of a generation."""

    sha256: str
    mode: str
    owner: str


class ConfigPart(_Part):
    """The current generation: as it was signed, and as it lies there."""

    generation: str
    image: str
    signed: dict[str, ConfigFacts]
    found: dict[str, ConfigFacts]
    assigned: dict[str, str]
    credentials: tuple[str, ...]
    foreign: tuple[str, ...]


class Unit(_Part):
    """A unit that systemd knows; `is_due`: it is to be active, for it stays once it is started, and its conditions held."""

    name: str
    load: str
    active: str
    sub: str
    is_due: bool


class UnitsPart(_Part):
    """The units that the image starts, those that systemd knows, files of what was made at run time, and what a drain has stopped."""

    declared: tuple[str, ...]
    found: tuple[Unit, ...]
    made: tuple[str, ...]
    drained: tuple[str, ...]


class Socket(_Part):
    """A socket that listens."""

    protocol: str
    address: str
    port: int
    uid: int


class Interface(_Part):
    """A way to a service that a role declares: one `port`, or `first` to `end`."""

    name: str
    transport: tuple[str, ...] = ("tcp",)
    port: int | None = None
    first: int | None = None
    end: int | None = None
    exposure: str


class PortsPart(_Part):
    """Listening sockets; `ephemeral` are the first and last port that the kernel gives to clients."""

    found: tuple[Socket, ...]
    declared: tuple[Interface, ...]
    ssh: tuple[int, ...]
    ephemeral: tuple[int, int]


class Rules(_Part):
    """The packet filter: chain -> policy and rules in order, by IP version, and the tables of nftables."""

    v4: dict[str, tuple[str, ...]]
    v6: dict[str, tuple[str, ...]]
    tables: tuple[str, ...]


class FirewallPart(_Part):
    """The rules of the image and the allow list, and those of the kernel."""

    declared: Rules
    found: Rules


class SysctlsPart(_Part):
    """Values by name; null where the kernel has no such setting."""

    declared: dict[str, str]
    found: dict[str, str | None]


class Mount(_Part):
    """A mount; `root` is the folder of the filesystem that it shows."""

    where: str
    what: str
    type: str
    options: str
    super: str
    root: str
    uuid: str


class MountsPart(_Part):
    """All mounts and swap areas."""

    found: tuple[Mount, ...]
    swaps: tuple[str, ...]


class User(_Part):
    """An account; `password` is locked, none or set."""

    uid: str
    gid: str
    home: str
    shell: str
    password: str


class Group(_Part):
    """A group with its members, separated by commas."""

    gid: str
    members: str


class Accounts(_Part):
    """Users and groups by name."""

    users: dict[str, User]
    groups: dict[str, Group]


class AccountsPart(_Part):
    """Accounts of the image, and those now."""

    declared: Accounts
    found: Accounts


class SealsPart(_Part):
    """Digest, mode and owner of files, by path, in the image and now."""

    declared: dict[str, str]
    found: dict[str, str]


class SshPart(_Part):
    """The host's key as its private half tells and as the file beside it says; lines of key files in homes, by path."""

    host_key: str
    host_key_file: str
    home_keys: dict[str, int]


class CommandLinePart(_Part):
    """The kernel's command line of this boot, and of the image's boot entry."""

    running: str
    entry: str


class TimeZonePart(_Part):
    """The time zone of the image, and the one now."""

    declared: str
    found: str


class Observation(_Part):
    """All that the agent saw.

    A part that it could not read is None, and `errors` says why; one that is None without an error is one that the image lacks.
    """

    schema_version: int
    host: str
    boot_id: str
    at: float
    uptime_s: float
    errors: dict[str, str]
    image: ImagePart | None
    boot: BootPart | None
    files: FilesPart | None
    packages: tuple[PackageChange, ...] | None
    config: ConfigPart | None
    units: UnitsPart | None
    ports: PortsPart | None
    firewall: FirewallPart | None
    sysctls: SysctlsPart | None
    mounts: MountsPart | None
    accounts: AccountsPart | None
    sudo: SealsPart | None
    ssh: SshPart | None
    spools: tuple[str, ...] | None
    command_line: CommandLinePart | None
    time_zone: TimeZonePart | None


def parse_observation(text: str, host: str) -> Observation:
    """Return what the agent of `host` printed. Raises `HostError` for anything else, and for what another host says."""
    try:
        found = Observation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise HostError(
            f"{host}: its agent's observation cannot be read",
            details=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            resolution="take the qtrade that fits the host's image",
        ) from error
    if found.schema_version != 1:
        raise HostError(
            f"{host}: its observation has schema_version {found.schema_version}, 1 is known", resolution="update qtrade"
        )
    if found.host != host:
        raise HostError(f"{host}: the host that answers calls itself {found.host}", resolution="correct its address")
    return found
