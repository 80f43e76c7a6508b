"""Compare what is written: the upper directory, the package database, the config generation and the rest of the state partition."""

import re
from collections.abc import Iterator

from flash.drift.expected import Expected
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import AccountsPart, ConfigFacts, FileChange, Observation
from qtrade.manifest import DriftKind

# What a path in the root is about; the first that fits. Everything else is a file.
_KINDS = (
    (re.compile(r"etc/(passwd|shadow|group|gshadow|subuid|subgid)-?$"), DriftKind.USER),
    (re.compile(r"etc/sudoers(\.d/|$)"), DriftKind.SUDO),
    (re.compile(r"etc/(localtime|timezone|adjtime)$"), DriftKind.TIME_ZONE),
    (re.compile(r"etc/(cron|anacron|at\.)|var/spool/(cron|at|anacron)"), DriftKind.CRON),
    (re.compile(r"(etc|usr/lib|usr/local/lib)/systemd/(system|user)(\.control)?/"), DriftKind.UNIT),
    (re.compile(r"(etc|usr/lib)/sysctl\.(d/|conf$)"), DriftKind.SYSCTL),
    (re.compile(r"etc/(ufw/|default/ufw|nftables)|usr/lib/qtrade/ufw_solana/"), DriftKind.FIREWALL),
    (re.compile(r"etc/ssh/ssh_host_"), DriftKind.HOST_KEY),
    (re.compile(r"(root|home/[^/]+)/\.ssh/|etc/ssh/"), DriftKind.SSH_KEY),
    (re.compile(r"var/lib/dpkg/"), DriftKind.PACKAGE),
    (re.compile(r"etc/fstab$"), DriftKind.MOUNT),
)
_LINK = re.compile(r"(?:etc|usr/lib)/systemd/system/(?P<target>[^/]+)\.(?:wants|requires)/(?P<unit>[^/]+)$")
_UNIT = re.compile(r"etc/systemd/system/(?P<unit>[^/]+\.[a-z]+)$")
_KEYS = "ssh/authorized_keys/"
# The file of the config over which the initramfs mounts the one of the state partition (bake/initramfs/os/scripts/qtrade).
_BOUND = ("hostname", "/host/hostname")


def compare_files(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the root with the image: after a clean boot nothing differs, and a reboot takes all away that does."""
    del expected
    files = observation.files
    if files is None:
        return
    for change in files.changes:
        yield _finding_of(change)
    if files.total > len(files.changes):
        more = files.total - len(files.changes)
        yield Finding(DriftKind.FILE, "*", f"{more} more entries of the root differ from the image", Remedy.REBOOT)


def kind_of_path(path: str) -> DriftKind:
    """Return what a change of this path (without a leading slash) is about."""
    return next((kind for pattern, kind in _KINDS if pattern.match(path)), DriftKind.FILE)


def _finding_of(change: FileChange) -> Finding:
    was, now = change.was or "nothing", change.now
    link, unit = _LINK.match(change.path), _UNIT.match(change.path)
    what = f"a {change.type} was {change.change} since the boot"
    if link and change.change == "deleted":
        what = f"{link['unit']} was disabled: {link['target']} no longer asks for it"
    elif link and change.change == "added":
        what = f"{link['unit']} was enabled: {link['target']} asks for it"
    elif unit and "target /dev/null" in now:
        what = f"{unit['unit']} was masked"
    return Finding(kind_of_path(change.path), f"/{change.path}", what, Remedy.REBOOT, was, now)


def compare_packages(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the package database with the image's."""
    del expected
    for change in observation.packages or ():
        what = (
            "was installed by hand"
            if not change.was
            else "was removed by hand"
            if not change.now
            else "was changed by hand"
        )
        yield Finding(
            DriftKind.PACKAGE, change.package, f"the package {what}", Remedy.REBOOT, change.was or "none", change.now or "none"
        )  # fmt: skip


def compare_config(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the config on the host with what was pushed, and what was pushed with what the manifests say now."""
    config = observation.config
    if config is None:
        return
    if config.image != expected.image.id:
        yield _config("generation", "the current generation is not one of this image", expected.image.id, config.image)
    assigned = config.assigned.get(expected.image.id, "none")
    if assigned != config.generation:
        yield _config("generation", "the next boot takes another generation", config.generation, assigned)
    yield from _compare_pushed(observation.accounts, config.signed, _unbound(observation, config.found))
    yield from _compare_rendered(expected.files, config.signed)
    for name in sorted(expected.secrets - set(config.credentials)):
        yield _config(f"secret {name}", "the host was never sent this secret, or lost it", "there", "missing")
    for name in sorted(set(config.credentials) - expected.secrets):
        yield Finding(
            DriftKind.CONFIG, f"secret {name}", "the host keeps a secret that its manifest does not name", Remedy.HAND, "", name,
            "name it in the manifest, or remove it on the host",
        )  # fmt: skip
    for name in config.foreign:
        yield Finding(
            DriftKind.FILE, f"/run/qtrade/state/{name}", "nothing of qtrade's puts this on the state partition", Remedy.HAND, "",
            "there", "find out who did, and remove it: it survives reboots",
        )  # fmt: skip


def _unbound(observation: Observation, found: dict[str, ConfigFacts]) -> dict[str, ConfigFacts]:
    """Return the files without what the initramfs mounts over one: of the host's name only the content is the config's."""
    config, mounts = observation.config, observation.mounts.found if observation.mounts else ()
    if config is None or not {_BOUND[0]} <= {*found} & {*config.signed}:
        return found
    place = f"/{config.generation}/{_BOUND[0]}"
    if not any(mount.root == _BOUND[1] and mount.where.endswith(place) for mount in mounts):
        return found
    wanted = _with_ids(config.signed[_BOUND[0]], observation.accounts)
    return {**found, _BOUND[0]: wanted.model_copy(update={"sha256": found[_BOUND[0]].sha256})}


def _compare_pushed(
    accounts: AccountsPart | None, signed: dict[str, ConfigFacts], found: dict[str, ConfigFacts]
) -> Iterator[Finding]:
    for path in sorted({*signed, *found}):
        wanted = _with_ids(signed[path], accounts) if path in signed else None
        if wanted != found.get(path):
            what = "was changed on the host since it was pushed"
            yield _config(path, what, _show(wanted), _show(found.get(path)))


def _compare_rendered(wanted: dict[str, ConfigFacts], signed: dict[str, ConfigFacts]) -> Iterator[Finding]:
    for path in sorted({*wanted, *signed}):
        if wanted.get(path) != signed.get(path):
            what = "the manifests say otherwise than the last push"
            yield _config(path, what, _show(wanted.get(path)), _show(signed.get(path)))


def _with_ids(facts: ConfigFacts, accounts: AccountsPart | None) -> ConfigFacts:
    """Return the facts with ids for the owner's names, as the image has them."""
    user, _, group = facts.owner.partition(":")
    if accounts is not None:
        known_user, known_group = accounts.declared.users.get(user), accounts.declared.groups.get(group)
        user = known_user.uid if known_user else user
        group = known_group.gid if known_group else group
    return facts.model_copy(update={"owner": f"{user}:{group}"})


def _config(subject: str, what: str, expected: str, found: str) -> Finding:
    kind = DriftKind.SSH_KEY if subject.startswith(_KEYS) else DriftKind.CONFIG
    return Finding(kind, subject, what, Remedy.PUSH, expected, found)


def _show(facts: ConfigFacts | None) -> str:
    return f"sha256 {facts.sha256[:16]} mode {facts.mode} owner {facts.owner}" if facts else "none"
