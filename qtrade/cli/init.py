"""`qtrade init`, `qtrade hosts add`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_recipes
from qtrade.cli.options import AsJson
from qtrade.cli.questions import Questions
from qtrade.errors import QtradeError, UsageError
from qtrade.reporter import print_document
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from flash.discovery.first_host import HostDraft

Text = str | None
Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("init")(init)


def add_commands(hosts: typer.Typer) -> None:
    """Add `qtrade hosts add`, which is the same for a further host."""
    hosts.command("add")(init)


def init(  # noqa: PLR0913 - one parameter per option
    *,
    name: Annotated[Text, typer.Option("--name", help="Name of the host.")] = None,
    env: Annotated[Text, typer.Option("--env", help="Its environment.", autocompletion=complete_environments)] = None,
    role: Annotated[Text, typer.Option("--role", help="rpc or validator.")] = None,
    recipe: Annotated[
        Text, typer.Option("--recipe", help="Recipe of its images.", autocompletion=complete_recipes)
    ] = None,
    address: Annotated[Text, typer.Option("--address", help="Name or IP address.")] = None,
    driver: Annotated[Text, typer.Option("--driver", help="Whose API reaches it: redfish, ssh, a provider.")] = None,
    driver_field: Annotated[
        Many, typer.Option("--driver-field", metavar="NAME=VALUE", help="A field of the driver; repeatable.")
    ] = None,
    identity: Annotated[Path | None, typer.Option("--identity", help="Private key that logs in.")] = None,
    ssh_user: Annotated[Text, typer.Option("--ssh-user", help="Who logs in to what runs there now.")] = None,
    ssh_port: Annotated[int, typer.Option("--ssh-port", min=1, max=65535, help="Its SSH port now.")] = 22,
    host_key: Annotated[
        str, typer.Option("--host-key", metavar="SHA256:…", help="Fingerprint of its SSH host key.")
    ] = "",
    look_over: Annotated[str, typer.Option("--look-over", help="ssh or redfish; as the driver is, if left out.")] = "",
    insecure_bmc: Annotated[
        bool, typer.Option("--insecure-bmc", help="Take the BMC's certificate unchecked; so says the manifest then.")
    ] = False,
    os_disk: Annotated[Text, typer.Option("--os-disk", help="Name, serial or WWID of the disk to overwrite.")] = None,
    protect: Annotated[Many, typer.Option("--protect", help="Disk that no flash may write to; repeatable.")] = None,
    data: Annotated[Many, typer.Option("--data", metavar="NAME:/MOUNT", help="Data disk; repeatable.")] = None,
    door: Annotated[Many, typer.Option("--door", help="Door, in order; repeatable.")] = None,
    netboot_url: Annotated[
        Text, typer.Option("--netboot-url", help="Where the host reaches this machine's netboot server.")
    ] = None,
    mac: Annotated[Text, typer.Option("--mac", help="MAC of the card that boots from the network.")] = None,
    keys: Annotated[
        bool | None, typer.Option("--keys/--no-keys", help="Make signing keys if there are none; asked if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifest and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take every default without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the manifest of a host: looks at its disks and network cards, asks what only you know, overwrites no file.

    What options say is not asked. Nothing is changed on the host.
    """
    from flash.discovery import first_host  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.discovery.choices import Given  # noqa: PLC0415

    settings, ask = load_settings(), Questions(defaults_only=yes)
    given = Given(
        name, env, role, recipe, address, driver, _fields(driver_field or []), identity, ssh_user, ssh_port,
        os_disk, _tuple(protect), _tuple(data), tuple(door or ()), netboot_url, mac,
    )  # fmt: skip
    look = first_host.Look(look_over, host_key, not insecure_bmc)
    draft = first_host.draft_host(settings, given, look, ask, lambda line: typer.echo(line, err=True))
    keys_made = False
    if not dry_run:
        first_host.write_draft(draft)
        keys_made = _make_keys(settings, keys, ask)
    _show(settings, draft, written=not dry_run, keys_made=keys_made, as_json=as_json)


def _has_images(settings: Settings) -> bool:
    """Say whether the store has images; one that does not answer counts as empty, as only a hint hangs on it."""
    from qtrade.store import open_store  # noqa: PLC0415

    try:
        return bool(open_store(settings).published())
    except QtradeError:
        return False


def _show(settings: Settings, draft: "HostDraft", *, written: bool, keys_made: bool, as_json: bool) -> None:
    from flash.discovery.first_host import InitDocument, next_commands  # noqa: PLC0415

    has_keys = (settings.keys_dir / "trust.json").is_file()
    steps = next_commands(draft, has_keys=has_keys, has_images=_has_images(settings))
    if as_json:
        document = InitDocument(
            draft.name, str(draft.path), draft.text, draft.machine, written=written, keys_made=keys_made, next=steps
        )
        print_document("first-host", asdict(document))
        return
    typer.echo(draft.text, nl=False)
    typer.echo(f"{'wrote' if written else 'would write'} {draft.path}; next:", err=True)
    typer.echo("\n".join(f"  {step}" for step in steps), err=True)


def _make_keys(settings: Settings, keys: bool | None, ask: Questions) -> bool:  # noqa: FBT001 - as the option is
    """Make root, build, promote and job key where there is no trust set, if that is wanted."""
    from qtrade.trust.keyring import init_keys  # noqa: PLC0415

    if (settings.keys_dir / "trust.json").is_file():
        return False
    if keys is None:
        question = f"There are no signing keys yet. Make them in {settings.keys_dir}?"
        keys = ask(question, option="--keys", default="no", among=("yes", "no")) == "yes"
    if keys:
        init_keys(settings)
    return keys


def _fields(pairs: list[str]) -> dict[str, str]:
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise UsageError(f"--driver-field {wrong[0]} is no NAME=VALUE", resolution="write it as server_id=123")
    return found


def _tuple(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(one for one in given if one)
