"""What a signed job makes a running host do, but for pushes (pushes.py): one function per kind, each returning facts for the report."""

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from . import (
    admission,
    adopt,
    boot,
    config,
    disks,
    durable,
    hardware,
    images,
    kexec,
    layers,
    mounts,
    protect,
)
from .bundle import check_declared, open_bundle
from .errors import AgentError
from .host import Host
from .job import Image, Job
from .report import tell_fetch
from .task import Task

if TYPE_CHECKING:
    from .fetch import Fetcher

DRAIN = Path("/usr/lib/qtrade/drain.d")
_DRAIN_TIMEOUT_S = 1800


_ROOM = 1 << 20


def stage(task: Task) -> Dict[str, Any]:
    """Put an image on the disk next to the running one, without a change of what boots."""
    from .fetch import Fetcher  # noqa: PLC0415 - what fetches nothing starts without HTTP

    job, host, reporter = task.job, task.host, task.reporter
    image = _require_image(job)
    task.trust.require_fresh(task.now)
    sequence = admission.require_admitted(image, task.trust, task.environment, task.now)
    disk = host.os_disk()
    if job.os_disk is not None and not disk.matches(job.os_disk):
        raise AgentError(
            "disk-not-found",
            f"the system is on {disk.describe()}, the job names {job.os_disk.describe()}",
            "correct os_disk",
        )
    hardware.require_bootable(host)
    before = _identities(job, host, disk)
    with host.esp() as esp:
        state = boot.read_state(esp)
    runs_by = admission.sequence_of(host.system, state.default, task.trust)
    admission.require_newer(sequence, runs_by, allow_older=job.allow_older)
    keep = {host.image_id, state.default, state.previous, image.image_id} - {""}
    fetcher = Fetcher(job.source, host.system, chunks=image.chunks, progress=tell_fetch(reporter, image.contents.blobs))
    reporter.progress("probe")
    fetcher.probe(fetcher.missing(image.contents.blobs))
    with mounts.writable(host.system) as system:
        gone = images.collect(system, keep, [blob.sha256 for blob in image.contents.blobs])
        _require_space(system, sum(blob.size_bytes for blob in fetcher.missing(image.contents.blobs)))
        reporter.progress("fetch", collected=gone)
        fetcher.fetch_all(image.contents.blobs)
        _require_intact(fetcher, image)
        images.write_image(system, image)
        durable.flush_filesystem(system)
        entry = boot.render_entry(
            image.contents, disk.partition("qtrade-system").uuid, disk.partition("qtrade-state").uuid, job.cmdline
        )
        images.write_entry(system, image.image_id, entry)
    _stage_bundle(task, image)
    fetched = fetcher.fetched
    return {
        "staged": image.image_id,
        "collected": gone,
        "bytes_fetched": fetched.bytes_fetched,
        "blobs_fetched": fetched.blobs_fetched,
        "retries": fetched.retries,
        "protected": protect.compare(before, _identities(job, host, disk)),
    }


def arm(task: Task) -> Dict[str, Any]:
    """Let an installed image boot once at the next start."""
    job, host = task.job, task.host
    images.require_installed(host.system, job.image_id)
    with host.esp() as esp:
        state = boot.read_state(esp)
        # What boots anyway may be armed: that is how a flash that failed leads back.
        if job.image_id != state.default:
            _require_admitted(task)
        _write_nonce(host, job.nonce)
        boot.write_once(esp, job.image_id, state.tries)
    return {"once": job.image_id}


def commit(task: Task) -> Dict[str, Any]:
    """Make an image the default: the one that runs, or with `require_running` false any installed one (rollback)."""
    job, host = task.job, task.host
    images.require_installed(host.system, job.image_id)
    if job.require_running and host.image_id != job.image_id:
        raise AgentError(
            "image-not-running",
            f"image {job.image_id} is to be committed, but {host.image_id} runs",
            "look why it fell back; only `require_running` false makes an image the default that does not run",
        )
    _require_admitted(task)
    if not job.require_running:
        _write_nonce(host, job.nonce)
    with host.esp() as esp:
        boot.commit(esp, job.image_id)
    adopt.settle(host, task.trust)
    with host.esp() as esp:
        state = boot.read_state(esp)
    return {"default": state.default, "previous": state.previous}


def reboot(_task: Task) -> Dict[str, Any]:
    """Agree to a reboot, which follows the report."""
    return {"rebooting": True}


def load_installer(task: Task) -> Dict[str, Any]:
    """Load the installer for a kexec, which follows the report."""
    job = task.job
    if job.boot is None:
        raise AgentError("job-invalid", "a job of kind kexec needs boot")
    return kexec.load(job.boot, job.source, task.reporter)


def drain(task: Task) -> Dict[str, Any]:
    """Run the programs by which the image's roles hand their work over, in the order of their names."""
    done: List[str] = []
    for program in _drain_programs():
        task.reporter.progress("drain", program=program.name)
        _run_drain([str(program)], "nothing was switched")
        done.append(program.name)
    return {"drained": done}


def undrain(task: Task) -> Dict[str, Any]:
    """Take a drain back where no reboot follows it: the same programs, last to first. A fault of one keeps no other from its part."""
    done: List[str] = []
    faults: List[str] = []
    for program in reversed(_drain_programs()):
        task.reporter.progress("undrain", program=program.name)
        try:
            _run_drain([str(program), "undrain"], "start its service")
            done.append(program.name)
        except AgentError as error:
            faults.append(error.message)
    if faults:
        raise AgentError("undrain-failed", "; ".join(faults), "see their journals, and start their services")
    return {"undrained": done}


def _drain_programs() -> List[Path]:
    return sorted(DRAIN.glob("*")) if DRAIN.is_dir() else []


def _run_drain(command: List[str], remedy: str) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_DRAIN_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError(
            "drain-timeout", f"{name} did not end within {_DRAIN_TIMEOUT_S} s", "see its journal"
        ) from error
    if done.returncode:
        raise AgentError("drain-failed", f"{name} ended with {done.returncode}", f"see its journal; {remedy}")


def _require_image(job: Job) -> Image:
    if job.image is None:
        raise AgentError("job-invalid", f"a job of kind {job.kind} needs an image")
    return job.image


def _identities(job: Job, host: Host, os_disk: disks.Disk) -> Dict[str, str]:
    everything = disks.discover(host.sys, host.dev)
    guarded = disks.bind_guarded(everything, job.protected, os_disk, "protected")
    guarded += disks.bind_guarded(everything, job.data, os_disk, "data")
    return {name: protect.identity(disk) for name, disk in protect.by_name(guarded).items()}


def _require_space(system: Path, needed: int) -> None:
    """Refuse what would fill the partition on the way: fs-verity and the filesystem itself want some more. Raises `AgentError`."""
    status = os.statvfs(system)
    free, wanted = status.f_bavail * status.f_frsize, needed + needed // 64 + _ROOM
    if needed and wanted > free:
        raise AgentError(
            "system-full",
            f"qtrade-system has {free} bytes free, {wanted} are wanted for {needed} bytes of layers; nothing was written",
            "flash smaller layers, or raise os_disk.system_mib in the host's manifest, which takes a flash with --wipe-state",
        )


def _require_intact(fetcher: "Fetcher", image: Image) -> None:
    bad = fetcher.missing(image.contents.blobs)
    if bad:
        raise AgentError(
            "blob-altered",
            f"after writing, these are not intact: {', '.join(blob.sha256 for blob in bad)}",
            "check the disk",
        )


def _require_admitted(task: Task) -> None:
    """Raise `AgentError` unless the installed image may boot. Its expiry does not count: it was let in before."""
    image = images.read_installed(task.host.system, task.job.image_id)
    admission.require_admitted(image, task.trust, task.environment)


def _stage_bundle(task: Task, image: Image) -> None:
    """Write the config generation that the image will boot with; the running one stays current."""
    job, host = task.job, task.host
    if job.bundle is None:
        return
    bundle = open_bundle(job.bundle, task.trust.job, job.host)
    if bundle.image_id != image.image_id:
        raise AgentError(
            "bundle-foreign", f"the bundle is for image {bundle.image_id}, not for {image.image_id}", "render it again"
        )
    names, inputs = layers.read_image(host.system, image.contents)
    check_declared(bundle, inputs)
    config.write_generation(host.config, bundle, names)
    config.assign(host.config, bundle)


def _write_nonce(host: Host, nonce: str) -> None:
    durable.write_file(host.state / "host/nonce", f"{nonce}\n".encode())
