"""Why an image is refused: a code for programs, a reason for people."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why an image is refused."""

    UNSIGNED = "unsigned"
    KEY_REVOKED = "key-revoked"
    IMAGE_REVOKED = "image-revoked"
    BLOCKED = "blocked"
    TRUST_EXPIRED = "trust-expired"
    LAB_KEYS = "lab-keys"
    STANDINS = "standins"
    NOT_BOOT_TESTED = "not-boot-tested"
    NO_CVE_GATE = "no-cve-gate"
    CVE_OPEN = "cve-open"
    CVE_STALE = "cve-stale"
    NOT_INTEGRATED = "not-integrated"
    NO_ROLLOUT = "no-rollout"
    NOT_SOAKED = "not-soaked"
    NO_LOAD_TEST = "no-load-test"
    LOAD_FAILED = "load-failed"
    ONE_KEY = "one-key"
    NOT_PROMOTED = "not-promoted"
    WRONG_CHANNEL = "wrong-channel"
    EXPIRED = "expired"
    OLDER = "older"


@dataclass(frozen=True)
class Refusal:
    """One reason, for programs and for people."""

    code: Code
    reason: str
