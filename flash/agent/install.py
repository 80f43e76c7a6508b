"""The installation: from a machine with disks to one that boots the image. Every check passes before the first write."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import (
    admission,
    adopt,
    bios,
    boot,
    config,
    disks,
    durable,
    ext4,
    hardware,
    images,
    layers,
    mounts,
    partition,
    predecessor,
    protect,
    survey,
)
from .bundle import Bundle, check_declared, open_bundle
from .errors import AgentError
from .fetch import Fetcher
from .host import Host
from .job import DiskId, Image, Job, Layout
from .journal import Journal
from .programs import run
from .report import Reporter, tell_fetch
from .trust import TrustSet, write_held
from .web import FAULTS, ask
from .wipe import zero

GRUB = Path("/usr/lib/qtrade/grub")
_JOB_TRIES = 10
_FILE = "file://"


class Plan(NamedTuple):
    """What the checks found out; nothing has been written yet."""

    job: Job
    image: Image
    layout: Layout
    disk: disks.Disk
    keeps_layout: bool
    guarded: List[disks.Disk]
    before: Dict[str, str]
    bundle: Optional[Bundle]
    trust: TrustSet
    warnings: List[str]


def read_parameters(cmdline: str) -> Dict[str, str]:
    """Return the `qtrade.` parameters of the kernel command line. Raises `AgentError` when job or root key id is missing."""
    words = (word.partition("=") for word in cmdline.split() if word.startswith("qtrade."))
    found = {name: value for name, _, value in reversed(list(words))}
    missing = [name for name in ("qtrade.job", "qtrade.root") if not found.get(name)]
    if missing:
        raise AgentError(
            "cmdline-incomplete", f"the kernel command line lacks {', '.join(missing)}", "correct the boot script"
        )
    return found


def get_job(url: str) -> Any:
    """Return the envelope at `url`; the network may need a moment. `file:` is a job that came with the installer. Raises `AgentError`."""
    if url.startswith(_FILE):
        try:
            return json.loads(Path(url[len(_FILE) :]).read_bytes())
        except (OSError, ValueError) as problem:
            raise AgentError("job-missing", f"{url} gives no job: {problem}", "start the flash again") from problem
    error = ""
    for attempt in range(_JOB_TRIES):
        try:
            with ask(url, timeout_s=10) as answer:
                return json.load(answer)
        except (AgentError, *FAULTS) as problem:
            error = str(problem)
        time.sleep(min(attempt + 1, 5))
    raise AgentError("job-missing", f"{url} gives no job: {error}", "start the flash again")


def check(job: Job, trust: TrustSet, now: float, host: Host, reporter: Reporter) -> Plan:
    """Do every check that needs no write. Raises `AgentError`."""
    if job.kind != "install" or job.image is None or job.layout is None or job.os_disk is None:
        raise AgentError("job-invalid", f"the installer got a job of kind {job.kind}", "start the flash again")
    reporter.progress("check")
    trust.require_fresh(now)
    sequence = admission.require_admitted(job.image, trust, job.environment, now)
    bundle = open_bundle(job.bundle, trust.job, job.host) if job.bundle is not None else None
    if bundle is not None and bundle.image_id != job.image.image_id:
        raise AgentError(
            "bundle-foreign",
            f"the bundle is for image {bundle.image_id}, not for {job.image.image_id}",
            "render it again",
        )
    everything = disks.discover(host.sys, host.dev)
    disk = disks.bind_os_disk(everything, job.os_disk)
    disks.require_usable(disk, everything, disks.read_mounts(host.proc))
    disks.require_unclaimed(disk)
    hardware.require_supported(host, disk)
    guarded = disks.bind_guarded(everything, job.protected, disk, "protected")
    data = disks.bind_guarded(everything, job.data, disk, "data")
    survey.require_accepted(disk, everything, job.adopt)
    keeps_layout = partition.check_layout(disk, job.layout, job.image.contents.size_bytes, wipes_state=job.wipe_state)
    predecessor.require_newer(job, sequence, disk, host, trust)
    Fetcher(job.source, Path("/nonexistent")).probe(job.image.contents.blobs)
    # From here on the kernel itself refuses a write to any other disk.
    protect.set_read_only([other for other in everything if other.name != disk.name])
    before = _fingerprints([*guarded, *data])
    esps = [f"{one} has an ESP too: the firmware may boot from it" for one in disks.second_esps(disk, everything)]
    for warning in esps:
        reporter.progress("warning", text=warning)
    return Plan(job, job.image, job.layout, disk, keeps_layout, [*guarded, *data], before, bundle, trust, esps)


def install(plan: Plan, host: Host, reporter: Reporter) -> Dict[str, Any]:
    """Write the disk; the boot choice is the last write. Returns facts for the report. Raises `AgentError`."""
    image, job = plan.image, plan.job
    with contextlib.ExitStack() as stack:
        stack.enter_context(disks.held(plan.disk))
        disk, keeps_system = _lay_out(plan, host, reporter)
        # From here on: zeroing and discarding try commands that many a SCSI disk does not know, and those count as errors too.
        io_errors = hardware.io_errors(disk, host.sys)
        esp = stack.enter_context(
            mounts.mounted(disk.partition_path("qtrade-esp"), host.run / "esp", "vfat", "rw", "umask=0077", "quiet")
        )
        system = stack.enter_context(mounts.mounted(disk.partition_path("qtrade-system"), host.system, "ext4", "rw"))
        stack.enter_context(mounts.mounted(disk.partition_path("qtrade-state"), host.state, "ext4", "rw"))
        previous = _previous_default(esp, system, plan) if keeps_system else ""
        images.collect(system, {previous, image.image_id} - {""}, [blob.sha256 for blob in image.contents.blobs])
        fetcher = Fetcher(job.source, system, chunks=image.chunks, progress=tell_fetch(reporter, image.contents.blobs))
        fetcher.fetch_all(image.contents.blobs)
        bad = fetcher.missing(image.contents.blobs)
        if bad:
            raise AgentError(
                "blob-altered", f"after writing, not intact: {', '.join(blob.sha256 for blob in bad)}", "check the disk"
            )
        adopt.add_boot_keys(system, plan.trust)
        adopt.drop_boot_keys(system, plan.trust)
        write_held(system, plan.trust)
        admission.write_environment(system, job.environment)
        images.write_image(system, image)
        reporter.progress("state")
        _write_state(plan, host)
        boot.prepare_esp(esp, GRUB)
        protected = protect.compare(plan.before, _fingerprints(plan.guarded))
        durable.flush_filesystem(system)
        hardware.require_no_new_errors(disk, host.sys, io_errors)
        reporter.progress("boot")
        entry = boot.render_entry(
            image.contents, disk.partition("qtrade-system").uuid, disk.partition("qtrade-state").uuid, job.cmdline
        )
        images.write_entry(system, image.image_id, entry)
        durable.flush_filesystem(system)
        boot.write_once(esp, "")
        boot.write_default(esp, image.image_id, previous)
        return {
            "image": image.image_id,
            "previous": previous,
            "bytes_fetched": fetcher.fetched.bytes_fetched,
            "blobs_fetched": fetcher.fetched.blobs_fetched,
            "retries": fetcher.fetched.retries,
            "warnings": plan.warnings,
            "ssh_host_key": host.ssh_host_key(),
            "protected": protected,
        }


def _lay_out(plan: Plan, host: Host, reporter: Reporter) -> Tuple[disks.Disk, bool]:
    """Make or mend table, filesystems and boot code; returns the disk as it is now, and whether its system partition was kept."""
    disk = plan.disk
    reporter.progress("partition", disk=disk.describe(), keeps_layout=plan.keeps_layout)
    if plan.keeps_layout:
        partition.mend_table(disk)
    else:
        partition.write_table(disk, plan.layout)
    disk = _reread(disk, host)
    partition.check_tables(disk)
    keeps_system = _make_filesystems(disk, plan)
    bios.install_bios(
        disk.path, disk.partition("bios_boot"), (GRUB / "boot.img").read_bytes(), (GRUB / "core.img").read_bytes()
    )
    return disk, keeps_system


def _fingerprints(guarded: List[disks.Disk]) -> Dict[str, str]:
    return {name: protect.fingerprint(disk) for name, disk in protect.by_name(guarded).items()}


def _reread(disk: disks.Disk, host: Host) -> disks.Disk:
    return disks.bind_os_disk(
        disks.discover(host.sys, host.dev),
        DiskId(disk.serial or None, disk.wwid or None, disk.size_bytes, disk.pci_path or None),
    )


def _make_filesystems(disk: disks.Disk, plan: Plan) -> bool:
    """Make the filesystems that are missing, broken or given up; says whether the system partition was kept, with its images."""
    system, state, esp = (disk.partition_path(f"qtrade-{name}") for name in ("system", "state", "esp"))
    keeps_state = plan.keeps_layout and not plan.job.wipe_state
    if not (keeps_state and _keep_state(disk)):
        if plan.keeps_layout and plan.job.wipe_state:
            # A new filesystem alone would leave the secrets readable below it.
            zero(state, 0, disk.partition("qtrade-state").size, lambda _done: None)
        partition.make_state(state)
    keeps_table = plan.keeps_layout and not plan.job.remake_system
    keeps_system = keeps_table and ext4.is_sound(system) and _is_fat(esp)
    if not keeps_system:
        partition.make_system(system)
        partition.make_esp(esp)
    return keeps_system


def _keep_state(disk: disks.Disk) -> bool:
    """Mend the state partition; False when none was ever made. Raises `AgentError` when there is one that cannot be mended."""
    state, system = disk.partition_path("qtrade-state"), disk.partition_path("qtrade-system")
    # Looked at first, as e2fsck writes even where it gives up. The state is made first: with copies of its superblock but no system
    # partition, an installation broke off in making it.
    was_made = not ext4.is_blank(state) or (ext4.find_copies(state, "qtrade-state") and ext4.has_magic(system))
    if ext4.is_sound(state) or ext4.mend_from_copy(state, "qtrade-state"):
        return True
    if not was_made:
        return False
    raise AgentError(
        "state-broken",
        f"qtrade-state on {disk.name} has faults that are not mended without losing data, with no copy of its superblock either",
        "repair it with e2fsck from a rescue system, or give it up with --wipe-state",
    )


def _is_fat(device: Path) -> bool:
    with device.open("rb") as file:
        return b"FAT" in file.read(90)


def _previous_default(esp: Path, system: Path, plan: Plan) -> str:
    """Return the image that stays to fall back on, empty for none: it must be one that the new trust set lets boot."""
    try:
        state = boot.read_state(esp)
    except AgentError:
        return ""
    default = state.previous if state.fell_back else state.default
    if default == plan.image.image_id or default not in images.installed(system):
        return ""
    return default if admission.is_trusted(system, default, plan.trust) else ""


def _write_state(plan: Plan, host: Host) -> None:
    job, state = plan.job, host.state
    for name, mode in (("var", 0o755), ("config", 0o755), ("host", 0o700), ("credstore", 0o700), ("agent", 0o700)):
        (state / name).mkdir(mode=mode, exist_ok=True)
    folder = state / "host"
    if not (folder / "machine-id").exists():
        durable.write_file(folder / "machine-id", f"{os.urandom(16).hex()}\n".encode(), 0o444)
    durable.write_file(folder / "hostname", f"{job.host}\n".encode(), 0o444)
    key = folder / "ssh_host_ed25519_key"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", job.host, "-f", str(key))
    if plan.bundle is not None:
        names, inputs = layers.read_image(host.system, plan.image.contents)
        check_declared(plan.bundle, inputs)
        config.make_room(state / "config", plan.bundle)
        config.write_generation(state / "config", plan.bundle, names)
        config.assign(state / "config", plan.bundle)
        config.switch(state / "config", plan.bundle.generation)
    Journal(state / "agent").use_lease(job)
    durable.write_file(folder / "nonce", f"{job.nonce}\n".encode())
