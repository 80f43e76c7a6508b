"""One or two real examples of every command; its `--help` ends with them. A test holds that each command has one, and that each parses."""

import typer

EXAMPLES: dict[str, tuple[str, ...]] = {
    "bake": ("qtrade bake --version 0.1.0", "qtrade bake --version 0.1.1 --recipe production --explain"),
    "bake shell": ("qtrade bake shell agave --recipe lab",),
    "bench load": (
        "qtrade bench load --env staging --for 60s",
        "qtrade bench load --host rpc-1 --for 5m --rps 200 --kind rpc --from here",
    ),
    "bench host": ("qtrade bench host --host rpc-1 --json",),
    "bench compare": ("qtrade bench compare 0.1.0 0.1.1 --recipe production",),
    "tools": ("qtrade tools --recipe lab",),
    "flash": ("qtrade flash --host lab-1 --version 0.1.0", "qtrade flash --host rpc-1 --dry-run"),
    "push": ("qtrade push --host rpc-1 --diff", "qtrade push --env staging --dry-run --json"),
    "rollback": ("qtrade rollback --host rpc-1", "qtrade rollback --host rpc-1 --to 0.1.0 --yes"),
    "ssh": ("qtrade ssh rpc-1", "qtrade ssh rpc-1 --reason 'ticket 42' -- systemctl --failed"),
    "logs": ("qtrade logs rpc-1 --unit agave-validator.service --follow",),
    "console": ("qtrade console rpc-1 --reason 'it does not boot'",),
    "hosts list": ("qtrade hosts list", "qtrade hosts list --live --json"),
    "hosts show": ("qtrade hosts show rpc-1",),
    "hosts add": (
        "qtrade hosts add --name rpc-2 --env staging --role rpc --address 192.0.2.12 --identity ~/.ssh/deploy",
    ),
    "hosts inventory": ("qtrade hosts inventory --list", "qtrade hosts inventory --host rpc-1"),
    "hosts prepare-disks": ("qtrade hosts prepare-disks --host rpc-1",),
    "hosts decommission": ("qtrade hosts decommission --host rpc-1",),
    "hosts keys": ("qtrade hosts keys --host rpc-1", "qtrade hosts keys --host rpc-1 --accept"),
    "hosts test": ("qtrade hosts test --host rpc-1",),
    "history": ("qtrade history --env staging --last 5", "qtrade history --env production --write"),
    "init": (
        "qtrade init",
        "qtrade init --name rpc-1 --driver redfish --driver-field url=https://192.0.2.20 --dry-run",
    ),
    "config show": ("qtrade config show --host rpc-1 --why agave_rpc_bind",),
    "drift": ("qtrade drift --host rpc-1", "qtrade drift --env production --json"),
    "verify": ("qtrade verify --host rpc-1",),
    "judge": (
        "qtrade judge soak.jsonl --env production",
        "qtrade judge soak.jsonl --env staging --until 1798000000 --json",
    ),
    "identity show": ("qtrade identity show --host val-1",),
    "identity take": ("qtrade identity take --host val-2 --dry-run",),
    "identity release": ("qtrade identity release --host val-1",),
    "lab up": ("qtrade lab up", "qtrade lab up --name lab-2 --firmware uefi --power-on"),
    "lab down": ("qtrade lab down", "qtrade lab down --name lab-2 --wipe"),
    "lab status": ("qtrade lab status --json",),
    "lock": ("qtrade lock --recipe lab", "qtrade lock agave=3.1.0 --recipe production --update --dry-run"),
    "images list": ("qtrade images list --recipe lab",),
    "images show": ("qtrade images show 0.1.0 --recipe lab",),
    "images gc": ("qtrade images gc --dry-run", "qtrade images gc --keep 5 --within-days 7 --yes"),
    "images promote": ("qtrade images promote 0.1.0 --recipe production --to staging",),
    "images integrate": ("qtrade images integrate 0.1.0 --recipe production",),
    "images approve": ("qtrade images approve 0.1.0 --recipe production --to production --within 3",),
    "images revoke": ("qtrade images revoke 0.1.0 --recipe production --reason 'CVE-2026-1' --dry-run",),
    "images unblock": ("qtrade images unblock 0.1.0 --recipe production --reason 'the monitor was wrong, ticket 42'",),
    "images verify": ("qtrade images verify 0.1.0 --export proof",),
    "images sbom": ("qtrade images sbom 0.1.0 --format cyclonedx",),
    "images cve": ("qtrade images cve 0.1.0 --update", "qtrade images cve 0.2.0 --since 0.1.0"),
    "images waive": ("qtrade images waive CVE-2026-1 --package libxml2 --reason 'not reachable' --expires 2027-01-31",),
    "images diff": ("qtrade images diff 0.1.0 0.2.0",),
    "images units": ("qtrade images units 0.1.0",),
    "images export": (
        "qtrade images export 0.1.0 --output raw",
        "qtrade images export 0.1.0 --output netboot --to out",
    ),
    "images test": ("qtrade images test 0.1.0 --firmware uefi",),
    "keys init": (
        "qtrade keys init",
        "qtrade keys init --root-key /media/usb/root.key --spare-root /media/spare/root.key",
    ),
    "keys show": ("qtrade keys show",),
    "keys rotate": ("qtrade keys rotate build --root-key /media/usb/root.key",),
    "keys revoke": ("qtrade keys revoke 1f6e0a9c --root-key /media/usb/root.key",),
    "keys renew": ("qtrade keys renew --expires 365", "qtrade keys renew --promotion-keys 2"),
    "keys import": ("qtrade keys import trust.json",),
    "keys request": ("qtrade keys request --to anna.pem",),
    "keys admit": ("qtrade keys admit anna.pem --root-key /media/usb/root.key",),
    "monitors plan": ("qtrade monitors plan --env production --recipe production",),
    "monitors apply": ("qtrade monitors apply --env production --recipe production --dry-run",),
    "rollout start": (
        "qtrade rollout start --env staging --version 0.2.0 --dry-run",
        "qtrade rollout start --env production --version 0.2.0",
    ),
    "rollout status": (
        "qtrade rollout status --env production",
        "qtrade rollout status --env staging --watch --timeout 3600",
    ),
    "rollout pause": ("qtrade rollout pause --env production",),
    "rollout resume": ("qtrade rollout resume --env production",),
    "rollout abort": ("qtrade rollout abort --env staging",),
    "rollout undo": ("qtrade rollout undo --env staging --dry-run", "qtrade rollout undo --env staging --to 0.1.0"),
    "rollout serve": ("qtrade rollout serve", "qtrade rollout serve --listen 192.0.2.5 --port 9464"),
    "secrets check": ("qtrade secrets check --env production",),
    "secrets rotate": ("qtrade secrets rotate datadog_api_key --env staging --dry-run",),
    "status": ("qtrade status", "qtrade status --live --json"),
    "doctor": ("qtrade doctor", "qtrade doctor --online --json"),
    "gc": ("qtrade gc --dry-run", "qtrade gc --days 30 --flashes 5 --yes"),
    "migrate": ("qtrade migrate --check", "qtrade migrate --dry-run"),
    "version": ("qtrade version --json",),
    "schema": ("qtrade schema", "qtrade schema host"),
    "workflow inputs": ("qtrade workflow inputs layer --layer geyser",),
    "workflow secrets": ("qtrade workflow secrets put", "qtrade workflow secrets remove"),
    "workflow summary": ("qtrade workflow summary --title 'Host'",),
    "workflow propose": ("qtrade workflow propose --recipe production --branch nightly --title 'Update the lock'",),
    "workflow issue": ("qtrade workflow issue --title 'The nightly image fails' --resolved",),
    "workflow require": ("qtrade workflow require",),
    "workflow release": ("qtrade workflow release --tag v1.2.3 --check",),
}


def add_examples(app: typer.Typer, path: tuple[str, ...] = ()) -> None:
    """End the help of each command with its examples."""
    for command in app.registered_commands:
        name = command.name or ""
        command.epilog = _epilog(" ".join((*path, name)))
    for group in app.registered_groups:
        name = str(group.name or "")
        inner = group.typer_instance
        if inner is None:
            continue
        if inner.registered_callback is not None:  # a group that is a command too, such as `bake`
            inner.registered_callback.epilog = _epilog(" ".join((*path, name)))
        add_examples(inner, (*path, name))


def _epilog(name: str) -> str | None:
    examples = EXAMPLES.get(name)
    # Click keeps the lines of a paragraph that begins so.
    return "\n".join(("\b", "Examples:", *(f"  {example}" for example in examples))) if examples else None
