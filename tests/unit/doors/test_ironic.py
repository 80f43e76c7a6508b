"""The Ironic door: what it asks of the service and in which order, and that it gives the host back however the flash ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flash.context import FlashContext
from flash.doors import ironic
from flash.doors.installer import Entry, Installer, LeavesOnArrival
from flash.doors.ironic import IronicEntry
from flash.doors.table import ENTRIES
from flash.drivers import PowerControl, ServiceDeploy
from qtrade.errors import HostError, Refused
from qtrade.manifest import Host
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host

pytestmark = pytest.mark.unit


class Service:
    """Records what it is asked, and fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: str = ""

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.fails == what.split(maxsplit=1)[0]:
            raise HostError(f"{what} failed")

    def check_deploy(self, host: Host) -> dict[str, Any]:
        self._note(f"check {host.name}")
        return {"provision_state": "active"}

    def deploy(self, host: Host, disc_url: str) -> dict[str, Any]:
        self._note(f"deploy {host.name} {disc_url}")
        return {"provision_states": ["active", "available", "active"]}

    def boot_from_disk(self) -> None:
        self._note("rest")


class Context:
    """What an entry sees of a flash."""

    def __init__(self, host: Host) -> None:
        self.host, self.service = host, Service()
        self.settings = SimpleNamespace()
        self.clean_up: list[Callable[[], None]] = []
        self.said: list[str] = []
        self.reporter = SimpleNamespace(step=self._step, say=self.said.append)

    @contextmanager
    def _step(self, _: str) -> Iterator[None]:
        yield

    @contextmanager
    def driver(self, ability: type[Any]) -> Iterator[Any]:
        assert ability in (ServiceDeploy, PowerControl)
        yield self.service


def ironic_host(**netboot: Any) -> Host:
    return make_host(
        driver={"kind": "ironic", "node": "rpc-1", "url": "http://192.0.2.1:6385"},
        doors=["in_place", "ironic"],
        netboot={"port": 8080, "url": "http://192.0.2.1:8080", "mac": "52:54:00:00:00:01", **netboot},
    )


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(ironic, "open_tools", lambda _: None)
    monkeypatch.setattr(ironic, "serve_disc", lambda *_: ("http://192.0.2.1:8080/t/installer.iso", "digest"))
    return Context(ironic_host(trusted_network=True))


def seen(context: Context) -> FlashContext:
    return cast("FlashContext", context)


def test_the_service_deploys_our_disc_and_gives_the_host_back_on_arrival(context: Context) -> None:
    entry: Entry = IronicEntry()
    assert entry.check(seen(context)) == {"provision_state": "active"}
    assert entry.enter(seen(context), cast("Installer", None)) == {
        "disc": "digest",
        "provision_states": ["active", "available", "active"],
    }
    assert isinstance(entry, LeavesOnArrival)
    entry.arrived(seen(context))
    assert context.service.asked == ["check rpc-1", "deploy rpc-1 http://192.0.2.1:8080/t/installer.iso", "rest"]
    assert entry.can_repeat(seen(context))
    assert entry.place(seen(context)).asks_by_mac is False


def test_a_deployment_that_failed_is_given_back_too(context: Context) -> None:
    context.service.fails = "deploy"
    with pytest.raises(HostError):
        IronicEntry().enter(seen(context), cast("Installer", None))
    for action in reversed(context.clean_up):
        action()
    assert context.service.asked[-1] == "rest"


def test_a_service_that_does_not_let_go_is_warned_about(context: Context) -> None:
    context.service.fails = "rest"
    IronicEntry().leave(seen(context))
    IronicEntry().arrived(seen(context))
    assert len(context.said) == 2
    assert all("see in Ironic that the node boots from its disk" in said for said in context.said)


def test_a_network_that_nobody_trusts_is_refused_before_the_service_is_asked() -> None:
    context = Context(ironic_host())
    with pytest.raises(Refused, match="not declared trusted"):
        IronicEntry().check(seen(context))
    assert context.service.asked == []


def test_only_this_door_leads_back_to_the_installer_by_itself() -> None:
    """Others boot once; whoever adds one that does not must say so."""
    assert [door for door, make in ENTRIES.items() if isinstance(make(), LeavesOnArrival)] == [Door.IRONIC]
