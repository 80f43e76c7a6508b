"""`qtrade images promote|revoke|unblock|verify`."""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qtrade.cli.complete import complete_versions
from qtrade.cli.options import AsJson, RecipeName, Yes
from qtrade.cli.staging import run_suite_after_promotion
from qtrade.errors import Refused, TrustError, UsageError
from qtrade.reporter import print_document, tell
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from qtrade.trust.policy import Channel, Rules
    from qtrade.trust.proof import Proof

Version = Annotated[str, typer.Argument(help="Version in the store.", autocompletion=complete_versions)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check, show what would be done, and stop.")]


def register(app: typer.Typer, images: typer.Typer) -> None:
    """Add the commands of this module to the group `images`."""
    del app
    images.command("promote")(promote)
    images.command("approve")(approve)
    images.command("revoke")(revoke)
    images.command("unblock")(unblock)
    images.command("verify")(verify)


def promote(  # noqa: PLR0913 - one parameter per option
    version: Version,
    *,
    to: Annotated[str, typer.Option("--to", help="Channel: dev, staging or production.")],
    recipe: RecipeName = "lab",
    expires: Annotated[int, typer.Option("--expires", min=1, help="Days until hosts take it no more.")] = 90,
    suite: Annotated[
        bool, typer.Option("--suite/--no-suite", help="To staging: run the integration suite on its hosts that run it.")
    ] = True,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Let a channel lead to a version: `qtrade images promote 1.4.0 --recipe rpc --to staging`."""
    from qtrade.store import open_store  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.trust import release  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    settings, channel = load_settings(), release.parse_channel(to)
    store, keyring = open_store(settings), load_keyring(settings)
    plan = release.plan_promotion(
        store, keyring, _rules(settings, channel), recipe, version, expires_days=expires, now=int(time.time())
    )
    if not dry_run:
        if channel != "dev":
            _confirm(f"promote {recipe} {version} to {channel}", version, yes=yes)
        release.promote(store, keyring, plan, partial(typer.echo, err=True))
    if as_json:
        print_document("promotion", {**asdict(plan), "done": not dry_run})
    else:
        was = f", was {plan.before.version}" if plan.before else ""
        typer.echo(
            f"{'would lead' if dry_run else 'leads'}: {channel} -> {recipe} {version} (number {plan.sequence}{was}); "
            f"tests passed: {', '.join(plan.tests_passed) or 'none'}{_approved(plan.approved_by)}"
        )
    if suite and channel == "staging" and not dry_run:
        run_suite_after_promotion(settings, recipe, version)


def approve(  # noqa: PLR0913 - one parameter per option
    version: Version,
    *,
    to: Annotated[str, typer.Option("--to", help="Channel: dev, staging or production.")],
    recipe: RecipeName = "lab",
    expires: Annotated[int, typer.Option("--expires", min=1, help="Days until hosts take it no more.")] = 90,
    within: Annotated[int, typer.Option("--within", min=1, max=30, help="Days in which it has to be promoted.")] = 7,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sign a promotion that another operator carries out: `qtrade images approve 1.4.0 --recipe rpc --to production`."""
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust import promotion, release  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    settings, channel, now = load_settings(), release.parse_channel(to), int(time.time())
    store, keyring = open_store(settings), load_keyring(settings)
    rules = _rules(settings, channel)
    plan = release.plan_approval(store, keyring, rules, recipe, version, expires_days=expires, now=now)
    if not dry_run:
        _confirm(f"approve {recipe} {version} for {channel}", version, yes=yes)
        promotion.approve(store, keyring, plan, within_days=within, now=now)
    if as_json:
        print_document("approval", {**asdict(plan), "within_days": within, "done": not dry_run})
    else:
        typer.echo(
            f"{'would be approved' if dry_run else 'approved'}: {channel} -> {recipe} {version} (number {plan.sequence}); "
            f"another operator promotes it within {within} days"
        )


def revoke(  # noqa: PLR0913 - one parameter per option
    version: Version,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody will read it.")],
    recipe: RecipeName = "lab",
    descendants: Annotated[
        bool, typer.Option("--descendants", help="Also all versions that hold the layers named with --layer.")
    ] = False,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="Role of a layer at fault; repeatable.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Revoke a version, for good: it is promoted, flashed and pushed to no more."""
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust import release  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    settings = load_settings()
    store = open_store(settings)
    plan = release.plan_revocation(
        store, recipe, version, reason=reason, layers=tuple(layer or ()), descendants=descendants
    )
    if not dry_run:
        _confirm(f"revoke {recipe} {', '.join(plan.versions)}", version, yes=yes)
        release.revoke(store, load_keyring(settings), plan, now=int(time.time()))
    if as_json:
        print_document("revocation", {**asdict(plan), "done": not dry_run})
        return
    for name, digest in plan.versions.items():
        typer.echo(f"{'would be revoked' if dry_run else 'revoked'}: {recipe} {name} {digest}")
    for channel in plan.channels:
        tell(f"warning: channel {channel} still leads to a revoked version: promote another")


def unblock(
    version: Version,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why it was a false alarm; everybody will read it.")],
    recipe: RecipeName = "lab",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Let a version be promoted and rolled out again that a rollout had found bad."""
    from qtrade.actor import read_actor  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.store.blocks import Blocks  # noqa: PLC0415

    store = open_store(load_settings())
    image = store.read(recipe, version).document()["id"]
    _confirm(f"unblock {recipe} {version}", version, yes=yes)
    lifted = Blocks(store.objects).lift(image, reason=reason, by=read_actor().describe())
    if as_json:
        print_document("block", asdict(lifted))
    else:
        typer.echo(f"unblocked: {recipe} {version}; it was blocked because: {lifted.reason}")


def verify(
    version: Version,
    *,
    recipe: RecipeName = "lab",
    export: Annotated[
        Path | None, typer.Option("--export", help="Write what the printed commands need into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove a version offline, and print the commands that prove it without qtrade."""
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust import proof as proofs  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415
    from qtrade.trust.policy import CHANNELS  # noqa: PLC0415

    settings = load_settings()
    store, trust = open_store(settings), load_keyring(settings).trust
    rules = tuple(_rules(settings, channel) for channel in CHANNELS)
    proof = proofs.prove(store, recipe, version, trust=trust, rules=rules, now=int(time.time()))
    commands = proofs.commands(proof.image_id, has_promotion=bool(proof.statements.promotions))
    if export is not None:
        proofs.export_proof(store, recipe, version, trust=trust, folder=export)
    _print_proof(proof, commands, export, as_json=as_json)
    if not proof.holds:
        raise TrustError(f"{recipe} {version} does not hold", resolution="do not use it; bake another version")


def _print_proof(proof: "Proof", commands: tuple[str, ...], export: Path | None, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = asdict(proof)
        document["statements"] = _count(proof)
        print_document("proof", {**document, "holds": proof.holds, "commands": list(commands)})
        return
    typer.echo(f"{proof.recipe} {proof.version} {proof.image_id}")
    for check in proof.checks:
        typer.echo(f"  {'holds' if check.ok else 'FAILS':6} {check.name}: {check.detail}")
    typer.echo(
        f"  said of it: {', '.join(f'{kind} {count}' for kind, count in _count(proof).items() if count) or 'nothing'}"
    )
    typer.echo(f"  tests passed: {', '.join(proof.statements.tests_passed()) or 'none'}")
    for reason in proof.statements.ignored:
        typer.echo(f"  passed over: {reason}")
    for environment, refusals in proof.refusals.items():
        reasons = "; ".join(one.reason for one in refusals)
        typer.echo(f"  {environment:12} {f'refuses it: {reasons}' if refusals else 'takes it'}")
    typer.echo(f"Without qtrade, in {export or 'the folder that --export DIR writes'}:")
    typer.echo("\n".join(f"  {command}" for command in commands))


def _approved(keys: tuple[str, ...]) -> str:
    return f"; approved by {', '.join(key[:16] for key in keys)}" if keys else ""


def _count(proof: "Proof") -> dict[str, int]:
    made = ("provenance", "sboms", "tests", "cves", "waivers")
    kinds = (*made, "integrations", "rollouts", "benches", "approvals", "promotions", "revocations")
    return {kind: len(getattr(proof.statements, kind)) for kind in kinds}


def _rules(settings: Settings, channel: "Channel") -> "Rules":
    from qtrade.manifest import load_environment_named  # noqa: PLC0415
    from qtrade.trust.policy import ENVIRONMENT_OF, rules_for  # noqa: PLC0415

    return rules_for(load_environment_named(settings, ENVIRONMENT_OF[channel]))


def _confirm(what: str, word: str, *, yes: bool) -> None:
    """Ask for the version. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody can be asked", resolution="add --yes")
    if typer.prompt(f"To {what}, type {word}", err=True) != word:
        raise Refused(f"that is not {word}; nothing was done", resolution=f"type {word}, or add --yes")
