"""Ironic behind Keystone: a cloud of clouds.yaml or of the OS_ variables, by openstacksdk's own login, against the two services' answers.

The servers here speak only what a login and one look at a node need (Identity API v3: password, catalog; Bare Metal API: versions, a node).
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flash.drivers import PowerState
from flash.drivers.ironic import IronicDriver
from flash.drivers.waiting import Waiting
from qtrade.errors import BadInput, HostError
from tests.unit.drivers.test_ironic_node import ironic_host

pytestmark = [
    pytest.mark.unit,
    # openstacksdk says of itself what it will drop.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

PASSWORD, TOKEN = "a password for Keystone", "a token of Keystone"
EXPIRES = "2099-01-01T00:00:00.000000Z"


class _Services(BaseHTTPRequestHandler):
    """Keystone below /identity, Ironic below /baremetal. `seen` are the tokens that Ironic was shown."""

    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path.startswith("/identity"):
            link = {"rel": "self", "href": f"{self._base}/identity/v3/"}
            self._answer(200, {"version": {"id": "v3.14", "status": "stable", "links": [link]}})
            return
        self.seen.append(self.headers.get("X-Auth-Token"))
        version = {"id": "v1", "links": [{"rel": "self", "href": f"{self._base}/baremetal/v1/"}], "status": "CURRENT"}
        version |= {"min_version": "1.1", "version": "1.109"}
        if self.path.rstrip("/") == "/baremetal":
            self._answer(200, {"versions": [version], "default_version": version})
        elif self.path.rstrip("/") == "/baremetal/v1":
            self._answer(200, {"id": "v1", "version": version})
        elif self.headers.get("X-Auth-Token") != TOKEN:
            self._answer(401, {"error": {"message": "who are you?"}})
        else:
            self._answer(200, {"uuid": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "power_state": "power on"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = asked["auth"]["identity"]["password"]["user"]
        if user["password"] != PASSWORD:
            self._answer(401, {"error": {"code": 401, "message": "not authorized", "title": "Unauthorized"}})
            return
        endpoint = {"id": "1", "interface": "public", "region": "R", "region_id": "R", "url": f"{self._base}/baremetal"}
        catalog = [{"id": "2", "type": "baremetal", "name": "ironic", "endpoints": [endpoint]}]
        project = {"id": "p", "name": "metal", "domain": {"id": "default", "name": "Default"}}
        token = {"methods": ["password"], "expires_at": EXPIRES, "issued_at": EXPIRES, "project": project}
        owner = {"id": "u", "name": "qtrade", "domain": project["domain"]}
        self._answer(201, {"token": {**token, "user": owner, "roles": [], "catalog": catalog}}, TOKEN)

    def log_message(self, *_: object) -> None:
        pass

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def _answer(self, status: int, document: Any, token: str = "") -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if token:
            self.send_header("X-Subject-Token", token)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def keystone() -> Iterator[str]:
    """Where Keystone listens."""
    _Services.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Services) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/identity/v3"
        server.shutdown()


def driver_of(cloud: str) -> IronicDriver:
    host = ironic_host(driver={"kind": "ironic", "node": "rpc-1", "cloud": cloud})
    return IronicDriver(host.driver, lambda _: "", Waiting())


def write_clouds(folder: Path, url: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = {"auth_url": url, "username": "qtrade", "password": password, "project_name": "metal"}
    auth |= {"user_domain_name": "Default", "project_domain_name": "Default"}
    (folder / "clouds.yaml").write_text(json.dumps({"clouds": {"metal": {"auth": auth, "region_name": "R"}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(folder / "clouds.yaml"))


def test_a_cloud_of_clouds_yaml_logs_in_and_its_token_reaches_ironic(
    keystone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clouds(tmp_path, keystone, PASSWORD, monkeypatch)
    with driver_of("metal") as driver:
        assert driver.power_state() is PowerState.ON
    assert _Services.seen[-1] == TOKEN


def test_a_cloud_of_variables_logs_in(keystone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"AUTH_URL": keystone, "USERNAME": "qtrade", "PASSWORD": PASSWORD, "PROJECT_NAME": "metal"}
    domains = {"USER_DOMAIN_NAME": "Default", "PROJECT_DOMAIN_NAME": "Default", "REGION_NAME": "R"}
    for name, value in {**named, **domains}.items():
        monkeypatch.setenv(f"OS_{name}", value)
    with driver_of("envvars") as driver:
        assert driver.power_state() is PowerState.ON


def test_a_wrong_password_leads_to_clouds_yaml_and_is_not_shown(
    keystone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clouds(tmp_path, keystone, "another password", monkeypatch)
    with driver_of("metal") as driver, pytest.raises(BadInput, match="does not accept the credential") as caught:
        driver.power_state()
    assert "clouds.yaml" in caught.value.resolution
    assert "another password" not in caught.value.render()
    assert _Services.seen == []


def test_a_cloud_that_is_not_there_and_a_keystone_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clouds(tmp_path, "http://127.0.0.1:9/identity/v3", PASSWORD, monkeypatch)
    with driver_of("other") as driver, pytest.raises(BadInput, match="not configured"):
        driver.power_state()
    with driver_of("metal") as driver, pytest.raises(HostError, match="does not answer"):
        driver.power_state()
