"""Build signed jobs for the agent (docs/architecture.md, "Job"), and check its reports."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flash.chunks import ChunkLists
from flash.trust import VerifiedImage
from qtrade.errors import HostError, QtradeError, TrustError
from qtrade.manifest import Host, Image
from qtrade.manifest.host import DiskIdentity
from qtrade.signing import JOB_TYPE, SigningKey
from qtrade.store.leases import LeaseLost
from qtrade.trust.keyring import Keyring

# The agent's code for a job of a holder whom another one followed.
_LEASE_LOST = "lease-lost"
# What agents refuse that are older than these fields, and how they say so. They did the same jobs without what these ask for.
_LEASE = frozenset({"lease"})
_NEWER = _LEASE | {"environment", "allow_older"}
_INVALID, _UNKNOWN = "job-invalid", "the job holds unknown fields: "
# The component of an image that is its agent, and the version of it from which on its installer heeds the lease.
_AGENT, _KNOWS_LEASE = "qtrade-agent", 2


class AgentFailed(HostError):
    """The agent answered that it did not do it; `code` is its own word for why (flash/agent/errors.py)."""

    def __init__(self, brief: str, *, code: str, resolution: str = "") -> None:
        super().__init__(brief, details=f"code: {code}", resolution=resolution)
        self.code = code


@dataclass(frozen=True)
class SignedJob:
    """A job as it is sent, with the nonce that only its answer knows. `without` makes it anew, less some fields."""

    envelope: dict[str, Any]
    nonce: str
    without: Callable[[frozenset[str]], "SignedJob"] | None = field(default=None, compare=False, repr=False)


class JobBuilder:
    """Makes jobs for one host. Each carries the trust set, so that the host takes a newer one with whatever comes next.

    `token` is that of the lease; jobs without one (0) are taken whoever holds the host. `chunks` gives the chunk lists of an image.
    """

    def __init__(self, host: Host, keyring: Keyring, *, token: int = 0, chunks: ChunkLists | None = None) -> None:
        self._host = host
        self._keyring = keyring
        self._lease = {"lease": token} if token else {}
        self._chunks = chunks
        self.key: SigningKey = keyring.signer("job")

    @property
    def root_id(self) -> str:
        """Return the id of the root key that an installer is to pin."""
        return self._keyring.root_id

    def install(
        self,
        image: VerifiedImage,
        *,
        source: str,
        report: str,
        bundle: dict[str, Any],
        asked: dict[str, Any] | None = None,
    ) -> SignedJob:
        """Return the job that makes the OS disk anew and puts `image` on it.

        `asked` is what an operator has asked for: `allow_older`, and the fields of `flash.context.Reimage`.
        """
        host = self._host
        return self._sign(
            "install",
            _unknown_to(image.image),
            image=self._image(image),
            source=source,
            report=report,
            os_disk=_disk(host.os_disk),
            protected=[_disk(disk) for disk in host.protected_disks],
            data=[_disk(disk) for disk in host.data_disks],
            layout={"esp_mib": host.os_disk.esp_mib, "system_mib": host.os_disk.system_mib},
            cmdline=host.cmdline,
            environment=host.environment,
            bundle=bundle,
            **(asked or {}),
        )

    def errand(self, kind: str, *, image: Image, report: str) -> SignedJob:
        """Return the job of kind `prepare_disks` or `decommission`, which the installer of `image` does."""
        host = self._host
        data = {"data": [_disk(disk) for disk in host.data_disks]} if kind == "prepare_disks" else {}
        protected = host.protected_disks if kind == "prepare_disks" else (*host.protected_disks, *host.data_disks)
        return self._sign(
            kind,
            _unknown_to(image),
            report=report,
            os_disk=_disk(host.os_disk),
            protected=[_disk(disk) for disk in protected],
            **data,
        )

    def stage(
        self, image: VerifiedImage, *, source: str, bundle: dict[str, Any], allow_older: bool = False
    ) -> SignedJob:
        """Return the job that adds `image` to a running host, not yet booted."""
        return self._sign(
            "stage",
            image=self._image(image),
            source=source,
            os_disk=_disk(self._host.os_disk),
            protected=[_disk(disk) for disk in self._host.protected_disks],
            data=[_disk(disk) for disk in self._host.data_disks],
            cmdline=self._host.cmdline,
            environment=self._host.environment,
            allow_older=allow_older,
            bundle=bundle,
        )

    def arm(self, image_id: str) -> SignedJob:
        """Return the job that makes the host boot `image_id` at the next boot only."""
        return self._sign("arm", image_id=image_id)

    def commit(self, image_id: str, *, require_running: bool = True) -> SignedJob:
        """Return the job that makes `image_id` the default; it must be running unless `require_running` is off."""
        return self._sign("commit", image_id=image_id, require_running=require_running)

    def apply(
        self,
        bundle: dict[str, Any],
        *,
        values: Mapping[str, bytes] | None = None,
        forget: Sequence[str] = (),
        confirm_within_s: int = 0,
    ) -> SignedJob:
        """Return the job that makes a config bundle current, brings secrets by name along and drops those to `forget`.

        With `confirm_within_s` the host takes back what may cut it off, unless it gets the job `confirm` in time. Agents that know
        none of this get the bundle alone.
        """
        more: dict[str, Any] = {"secrets": _as_secrets(values)} if values else {}
        return self._sign("apply", bundle=bundle, **more, **_forget(forget), **_trial(confirm_within_s))

    def restore(self, generation: str, *, confirm_within_s: int = 0) -> SignedJob:
        """Return the job that makes an earlier config generation of the running image current, otherwise as `apply`."""
        return self._sign("restore", generation=generation, **_trial(confirm_within_s))

    def confirm(self, nonce: str) -> SignedJob:
        """Return the job that settles what the job with this nonce has put on trial; it has to go over a new connection."""
        return self._sign("confirm", confirms=nonce)

    def secrets(self, values: Mapping[str, bytes], *, forget: Sequence[str] = ()) -> SignedJob:
        """Return the job that stores secrets, by name, and drops others, for each unit to act once.

        It goes over SSH stdin and nowhere else.
        """
        return self._sign("secret", secrets=_as_secrets(values), **_forget(forget))

    def kexec(self, image: VerifiedImage, install: SignedJob, *, source: str, cmdline: str) -> SignedJob:
        """Return the job that starts the image's installer by kexec, with the job `install` in its memory."""
        kernel, initrd = image.image.kernel, image.image.installer
        return self._sign(
            "kexec",
            source=source,
            boot={
                "kernel": {"sha256": kernel.digest, "size_bytes": kernel.size},
                "initrd": {"sha256": initrd.digest, "size_bytes": initrd.size},
                "cmdline": cmdline,
                "job": install.envelope,
            },
        )

    def simple(self, kind: str) -> SignedJob:
        """Return a job of kind `reboot`, `drain` or `undrain`."""
        return self._sign(kind)

    def _image(self, image: VerifiedImage) -> dict[str, Any]:
        fields = {
            "id": image.image.id,
            "version": image.image.version,
            "list": image.list_text,
            "sig": base64.b64encode(image.list_sig).decode(),
            "image_json": image.image_text,
        }
        more = {"promotion": image.promotion} if image.promotion is not None else {}
        return {**fields, **more, **({"chunks": self._chunks(image.image)} if self._chunks else {})}

    def _sign(self, kind: str, leaves_out: frozenset[str] = frozenset(), **fields: Any) -> SignedJob:
        nonce = secrets.token_hex(32)
        payload = {
            "schema_version": 1,
            "kind": kind,
            "host": self._host.name,
            "nonce": nonce,
            "issued_at": int(time.time()),
            "trust": self._keyring.envelope,
            **self._lease,
            **fields,
        }
        known = {name: value for name, value in payload.items() if name not in leaves_out}
        return SignedJob(
            self.key.envelope(JOB_TYPE, known), nonce, lambda more: self._sign(kind, leaves_out | more, **fields)
        )


def _as_secrets(values: Mapping[str, bytes]) -> list[dict[str, str]]:
    return [{"name": name, "value": base64.b64encode(value).decode()} for name, value in values.items()]


def _forget(names: Sequence[str]) -> dict[str, Any]:
    return {"forget": list(names)} if names else {}


def _trial(confirm_within_s: int) -> dict[str, Any]:
    return {"confirm_within_s": confirm_within_s} if confirm_within_s else {}


def _unknown_to(image: Image) -> frozenset[str]:
    """Return the fields that the agent of an image refuses, as its component's version tells: it cannot be asked before it runs."""
    version = next((part.version for part in image.components if part.name == _AGENT), "")
    return frozenset() if version.isdecimal() and int(version) >= _KNOWS_LEASE else _LEASE


def find_unknown(error: Mapping[str, str]) -> frozenset[str]:
    """Return the fields for which an older agent refused a job, if it can do the job without them; else none."""
    message = str(error.get("message", ""))
    if error.get("code") != _INVALID or not message.startswith(_UNKNOWN):
        return frozenset()
    found = frozenset(message.removeprefix(_UNKNOWN).split(", "))
    return found if found <= _NEWER else frozenset()


def check_report(report: dict[str, Any], nonce: str, host: str) -> dict[str, Any]:
    """Return the report of a job. Raises `TrustError` unless it is of the agent that has the job, else as `failure` if it failed."""
    rest = {name: value for name, value in report.items() if name != "hmac"}
    # The agent signs the text as UTF-8, without escapes.
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = hmac.new(nonce.encode(), text.encode(errors="replace"), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), str(report.get("hmac", "")).encode()):
        raise TrustError(f"{host}: the report is not of the agent that was given the job")
    if report.get("nonce") != nonce:
        raise TrustError(f"{host}: the report is of another job")
    if not report.get("ok"):
        raise failure(host, report.get("error") or {})
    return report


def failure(host: str, error: dict[str, str]) -> QtradeError:
    """Return the error that the agent of `host` reported: a `LeaseLost` where a later holder of the host was there before."""
    code = error.get("code", "unknown")
    brief = f"{host}: {error.get('message', 'the agent failed')}"
    resolution = error.get("remedy") or "look at the host's console"
    if code == _LEASE_LOST:
        return LeaseLost(brief, details=f"code: {code}", resolution=resolution)
    return AgentFailed(brief, code=code, resolution=resolution)


def _disk(disk: DiskIdentity) -> dict[str, Any]:
    fields = ("serial", "wwid", "size_bytes", "pci_path", "fs_uuid")
    return {name: value for name in fields if (value := getattr(disk, name, None)) is not None}
