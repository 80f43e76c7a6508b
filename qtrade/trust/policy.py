"""What may run where. Pure: facts, statements that hold, a trust set, rules and a time in; reasons for a refusal out."""

from dataclasses import dataclass, field
from typing import Literal

from qtrade.errors import Refused
from qtrade.machine.spec import Firmware
from qtrade.manifest import Environment, Image
from qtrade.trust.refusal import Code, Refusal
from qtrade.trust.staging import StagingDemands, demands_of, refuse_unstaged
from qtrade.trust.statements import Statements
from qtrade.trust.trust_set import TrustSet

Channel = Literal["dev", "staging", "production"]
CHANNELS: tuple[Channel, ...] = ("dev", "staging", "production")
# The channel of an environment; a host also takes what was promoted beyond it.
_CHANNEL_OF: dict[str, Channel] = {"development": "dev", "staging": "staging", "production": "production"}
_SHOWN = 5
_DAY_S = 86400
ENVIRONMENT_OF = {channel: environment for environment, channel in _CHANNEL_OF.items()}


def channel_of(environment: str) -> Channel:
    """Return the channel that an environment's hosts follow."""
    return _CHANNEL_OF[environment]


@dataclass(frozen=True)
class Rules:
    """What an environment demands. In development nothing but a signature and that nothing was revoked.

    `cve_snapshot_days` is how old the security tracker's data of an image's last scan may be, `staging` what must have been seen on
    staging's hosts before a promotion, and `keys` how many operators sign one.
    """

    environment: str
    channel: Channel
    allow_standins: bool
    needs_cve_gate: bool
    cve_snapshot_days: int = 7
    staging: StagingDemands = field(default_factory=StagingDemands)
    keys: int = 1

    @property
    def is_development(self) -> bool:
        """Whether the environment is the one for work in progress."""
        return self.channel == "dev"


@dataclass(frozen=True)
class Candidate:
    """An image that is to be used: what it is, who signed its list (any key that was ever trusted), what is said of it.

    `blocked` is why a rollout found it bad, empty where none did.
    """

    image: Image
    signers: frozenset[str]
    statements: Statements
    blocked: str = ""


def rules_for(environment: Environment) -> Rules:
    """Return the rules of an environment. Stand-ins never go past development, whatever its manifest says."""
    channel = _CHANNEL_OF[environment.name]
    return Rules(
        environment.name,
        channel,
        allow_standins=environment.allow_standins and channel == "dev",
        needs_cve_gate=environment.require_cve_gate,
        cve_snapshot_days=environment.cve_snapshot_days,
        staging=demands_of(environment),
        keys=environment.promotion.keys or (2 if channel == "production" else 1),
    )


def refuse_install(candidate: Candidate, trust: TrustSet, rules: Rules, now: int) -> tuple[Refusal, ...]:
    """Return why the image must not be put on a host of the environment."""
    # In development people look for what is wrong with it.
    blocked = () if rules.is_development else _refuse_blocked(candidate)
    keys = keys_needed(rules, trust)
    return (*_refuse_use(candidate, trust, rules, now), *blocked, *_refuse_unpromoted(candidate, rules, keys, now))


def refuse_revoked(statements: Statements) -> tuple[Refusal, ...]:
    """Return why the image must not be used at all."""
    return tuple(Refusal(Code.IMAGE_REVOKED, f"it was revoked: {one.reason}") for one in statements.revocations)


def refuse_older(sequence: int, host_sequence: int, *, allow_older: bool) -> tuple[Refusal, ...]:
    """Return why an image must not follow what a host runs: it was promoted earlier. Zero stands for no promotion."""
    if not 0 < sequence < host_sequence or allow_older:
        return ()
    return (Refusal(Code.OLDER, f"it was promoted as number {sequence}, the host runs by number {host_sequence}"),)


def refuse_promotion(candidate: Candidate, trust: TrustSet, rules: Rules, now: int) -> tuple[Refusal, ...]:
    """Return why the image must not be promoted to the channel of `rules`. Whether enough operators agree, `refuse_alone` says."""
    staged = refuse_unstaged(candidate.statements, rules.staging)
    return (*_refuse_use(candidate, trust, rules, now), *_refuse_blocked(candidate), *staged)


def keys_needed(rules: Rules, trust: TrustSet) -> int:
    """Return how many operators sign a promotion. What the root demands for production, no manifest takes away."""
    return max(rules.keys, trust.promotion_keys if rules.channel == "production" else 1)


def refuse_alone(rules: Rules, trust: TrustSet, agreed: frozenset[str]) -> tuple[Refusal, ...]:
    """Return why a promotion lacks an operator. `agreed` are the keys that have signed it, and the one that is about to."""
    needed = keys_needed(rules, trust)
    if len(agreed) >= needed:
        return ()
    have = f"{len(trust.promote)} promote key{'s' if len(trust.promote) > 1 else ''}"
    return (Refusal(Code.ONE_KEY, f"{needed} operators sign it, {len(agreed)} did; the trust set has {have}"),)


def _refuse_blocked(candidate: Candidate) -> tuple[Refusal, ...]:
    return (Refusal(Code.BLOCKED, f"a rollout found it bad: {candidate.blocked}"),) if candidate.blocked else ()


def _refuse_use(candidate: Candidate, trust: TrustSet, rules: Rules, now: int) -> list[Refusal]:
    """Return the reasons that count for hosts and channels alike."""
    found = _refuse_signatures(candidate, trust)
    statements = candidate.statements
    found += refuse_revoked(statements)
    if trust.expires <= now:
        found.append(Refusal(Code.TRUST_EXPIRED, "the trust set has expired: qtrade keys renew"))
    if trust.lab and not rules.is_development:
        found.append(Refusal(Code.LAB_KEYS, "its keys are a lab's, which count in development only"))
    if candidate.image.has_standins and not rules.allow_standins:
        names = ", ".join(part.name for part in candidate.image.components if part.standin)
        found.append(Refusal(Code.STANDINS, f"it holds stand-ins: {names}"))
    return [*found, *_refuse_untested(statements, rules), *_refuse_cves(statements, rules, now)]


def _refuse_signatures(candidate: Candidate, trust: TrustSet) -> list[Refusal]:
    if candidate.signers & {key.keyid for key in trust.builders()}:
        return []
    revoked = sorted(candidate.signers & set(trust.revoked))
    if revoked:
        return [Refusal(Code.KEY_REVOKED, f"the key that signed it is revoked: {revoked[0][:16]}")]
    return [Refusal(Code.UNSIGNED, "no build key of the trust set signed it")]


def _refuse_untested(statements: Statements, rules: Rules) -> list[Refusal]:
    """Return why its boot tests are not enough: hosts boot by either firmware, and no manifest says by which."""
    if rules.is_development:
        return []
    last = {firmware: statements.last_boot_test(firmware) for firmware in Firmware}
    return [
        Refusal(
            Code.NOT_BOOT_TESTED,
            f"its last boot test by {firmware} failed" if run else f"it was not boot-tested by {firmware}",
        )
        for firmware, run in last.items()
        if run is None or not run.passed
    ]


def _refuse_cves(statements: Statements, rules: Rules, now: int) -> list[Refusal]:
    if not rules.needs_cve_gate:
        return []
    last = statements.last_cve_scan()
    if last is None:
        return [Refusal(Code.NO_CVE_GATE, "it did not go through the CVE gate")]
    if not last.is_passed:
        more = len(last.blocking) - _SHOWN
        named = [*last.blocking[:_SHOWN], *((f"and {more} more",) if more > 0 else ())]
        return [Refusal(Code.CVE_OPEN, f"it did not pass the CVE gate; not waived: {', '.join(named)}")]
    age_days = (now - int(last.snapshot_time.timestamp())) // _DAY_S
    if age_days < rules.cve_snapshot_days:
        return []
    made = last.snapshot_time.date().isoformat()
    return [
        Refusal(
            Code.CVE_STALE,
            f"its last CVE scan is by data of {made}, {age_days} days old; the limit is {rules.cve_snapshot_days}",
        )
    ]


def _refuse_unpromoted(candidate: Candidate, rules: Rules, keys: int, now: int) -> list[Refusal]:
    if rules.is_development:
        return []
    accepted = CHANNELS[CHANNELS.index(rules.channel) :]
    said = candidate.statements
    signed = zip(said.promotions, said.promotion_signers, strict=True)
    reaching = [(one, signers) for one, signers in signed if one.channel in accepted]
    promotions = [one for one, signers in reaching if len(signers) >= keys]
    if reaching and not promotions:
        most = max(len(signers) for _, signers in reaching)
        return [
            Refusal(Code.ONE_KEY, f"{keys} operators sign what {rules.environment} takes, {most} signed its promotion")
        ]
    if any(one.expires > now for one in promotions):
        return []
    if promotions:
        return [Refusal(Code.EXPIRED, f"its promotion to {promotions[-1].channel} has expired")]
    others = sorted({one.channel for one in candidate.statements.promotions})
    if others:
        return [Refusal(Code.WRONG_CHANNEL, f"it is promoted to {', '.join(others)}, not to {rules.channel}")]
    return [Refusal(Code.NOT_PROMOTED, f"it is not promoted to {rules.channel}")]


_SCAN = "qtrade images cve VERSION --update --attest"
_LOAD = "qtrade bench load --env staging --for 60s"
_CURES = {
    Code.UNSIGNED: "bake it with the build key of this trust set",
    Code.KEY_REVOKED: "bake it again under another number, with the key that signs now",
    Code.IMAGE_REVOKED: "choose another version: a revocation is for good",
    Code.BLOCKED: "choose another version; where it was a false alarm, run `qtrade images unblock`",
    Code.TRUST_EXPIRED: "run `qtrade keys renew` where the root key is",
    Code.LAB_KEYS: "make keys with `qtrade keys init` in a state directory of its own, and bake there",
    Code.STANDINS: "bake from a recipe that holds the real parts",
    Code.NOT_BOOT_TESTED: "run `qtrade images test VERSION`, then try again",
    Code.NO_CVE_GATE: f"run `{_SCAN}`, then try again",
    Code.CVE_OPEN: f"bake with newer packages; or waive the findings with a reason, then run `{_SCAN}`",
    Code.CVE_STALE: f"run `{_SCAN}`, then try again",
    Code.NOT_INTEGRATED: "run `qtrade images integrate VERSION`, mend what fails, then try again",
    Code.NO_ROLLOUT: "run `qtrade rollout start --env staging --version VERSION`, and let it commit",
    Code.NOT_SOAKED: "let a rollout through staging soak longer (soak_s of environment staging), then try again",
    Code.NO_LOAD_TEST: f"run `{_LOAD}`, then try again",
    Code.LOAD_FAILED: f"find out why (`qtrade bench compare OLD NEW`), mend it, and run `{_LOAD}`",
    Code.ONE_KEY: "let another operator run `qtrade images approve VERSION --to CHANNEL`, with a key of their own (`qtrade keys admit`)",
    Code.NOT_PROMOTED: "run `qtrade images promote`",
    Code.WRONG_CHANNEL: "run `qtrade images promote` for this channel",
    Code.EXPIRED: "promote it again, or choose a newer version",
    Code.OLDER: "choose a newer version; to go back, run `qtrade rollback` or add --allow-older",
}


def raise_refused(brief: str, refusals: tuple[Refusal, ...]) -> None:
    """Raise `Refused` with all reasons, and what cures each, if there are any."""
    if refusals:
        raise Refused(
            f"{brief}: {refusals[0].reason}",
            details="\n".join(f"  {one.code}: {one.reason}" for one in refusals),
            resolution="; ".join(dict.fromkeys(_CURES[one.code] for one in refusals)),
        )
