"""Redfish over HTTP for the lab: authentication, routes, and resets that are accepted at once and done later."""

import base64
import binascii
import hmac
import json
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from flash.lab.board import Board
from flash.lab.facts import LabFacts
from flash.lab.requests import InsertMedia, Login, Reset, SystemPatch, patch_override
from flash.lab.resources import (
    EJECT_ACTION,
    INSERT_ACTION,
    ROOT,
    SESSIONS,
    Json,
    View,
    error_document,
    render_documents,
    reset_path,
    system_path,
)
from qtrade.errors import QtradeError
from qtrade.machine.spec import TapNetwork

_MAX_BODY_BYTES = 1 << 20
_DOWNLOAD_TIMEOUT_S = 30
_Body = TypeVar("_Body", bound=BaseModel)


class RefusalError(Exception):
    """An answer that says no."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class RedfishServer(ThreadingHTTPServer):
    """The BMC's web server on 127.0.0.1. It listens once it is made, and answers once `serve_forever` runs."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, facts: LabFacts, board: Board, *, password: str, downloads: Path) -> None:
        super().__init__(("127.0.0.1", facts.ports.bmc), _Handler)
        self.facts = facts
        self.board = board
        self.password = password
        self.downloads = downloads
        self.sessions: dict[str, str] = {}

    def view(self) -> View:
        """Return what the documents are made of now."""
        return View(self.facts, self.board.state, self.board.power, self.board.fault)

    def is_password(self, user: str, password: str) -> bool:
        """Check a user's password."""
        given, right = f"{user}:{password}".encode(), f"{self.facts.bmc_user}:{self.password}".encode()
        return hmac.compare_digest(given, right)


class _Handler(BaseHTTPRequestHandler):
    server: RedfishServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_POST(self) -> None:
        self._serve(self._post)

    def do_PATCH(self) -> None:
        self._serve(self._patch)

    def do_DELETE(self) -> None:
        self._serve(self._delete)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log to stderr, which is the BMC's log; request lines hold no secrets."""
        print(self.log_date_time_string(), format % args, flush=True)  # noqa: T201 - the log of this process

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _serve(self, method: Callable[[bytes], None]) -> None:
        try:
            body = self._read_body()
            if self._path not in {"/redfish", ROOT} and (self.command, self._path) != ("POST", SESSIONS):
                self._authenticate()
            method(body)
        except RefusalError as refusal:
            self._answer(refusal.status, error_document(str(refusal)))
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            self._answer(HTTPStatus.BAD_REQUEST, error_document(fields))
        except QtradeError as error:
            self._answer(HTTPStatus.BAD_REQUEST, error_document(error.brief))

    def _get(self, _: bytes) -> None:
        if self._path == "/redfish":
            self._answer(HTTPStatus.OK, {"v1": f"{ROOT}/"})
            return
        document = render_documents(self.server.view()).get(self._path)
        if document is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, f"there is no {self._path}")
        self._answer(HTTPStatus.OK, document)

    def _post(self, body: bytes) -> None:
        if self._path == SESSIONS:
            self._log_in(_parse(Login, body))
        elif self._path == reset_path(self.server.facts):
            self._reset(_parse(Reset, body))
        elif self._path == INSERT_ACTION:
            self._insert(_parse(InsertMedia, body))
        elif self._path == EJECT_ACTION:
            self.server.board.ask(self.server.board.eject)
            self._answer(HTTPStatus.NO_CONTENT)
        else:
            raise RefusalError(HTTPStatus.NOT_FOUND, f"nothing can be posted to {self._path}")

    def _patch(self, body: bytes) -> None:
        if self._path != system_path(self.server.facts):
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, f"{self._path} cannot be changed")
        patch, board = _parse(SystemPatch, body), self.server.board
        board.ask(lambda: board.set_override(patch_override(self.server.facts, board.state.override, patch)))
        if patch.oem is not None:
            tap = patch.oem.qtrade.tap
            board.ask(partial(board.set_tap, TapNetwork(tap.ifname, tap.netns) if tap else None))
        self._answer(HTTPStatus.NO_CONTENT)

    def _delete(self, _: bytes) -> None:
        session = self._path.removeprefix(f"{SESSIONS}/")
        if session not in self.server.sessions:
            raise RefusalError(HTTPStatus.NOT_FOUND, f"there is no {self._path}")
        del self.server.sessions[session]
        self._answer(HTTPStatus.NO_CONTENT)

    def _reset(self, body: Reset) -> None:
        board = self.server.board
        self.log_message("board: asked for %s", body.reset_type)
        match body.reset_type:
            case "On":
                board.do(board.power_on)
            case "ForceOff":
                board.do(board.force_off)
            case "GracefulShutdown":
                board.do(board.shut_down)
            case "GracefulRestart":
                board.do(partial(board.shut_down, restart=True))
            case "ForceRestart" | "PowerCycle":
                board.do(board.restart)
        self._answer(HTTPStatus.NO_CONTENT)

    def _insert(self, body: InsertMedia) -> None:
        downloaded = self.server.downloads / f"download-{secrets.token_hex(8)}"
        try:
            # The model lets http and https URLs in only; the BMC takes no proxy, as it stands in the same network.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(body.image, timeout=_DOWNLOAD_TIMEOUT_S) as source, downloaded.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            self.server.board.ask(lambda: self.server.board.insert(body.image, downloaded))
        except (urllib.error.URLError, OSError) as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, f"{body.image} cannot be fetched: {error}") from error
        finally:
            downloaded.unlink(missing_ok=True)
        self._answer(HTTPStatus.NO_CONTENT)

    def _log_in(self, body: Login) -> None:
        if not self.server.is_password(body.user_name, body.password):
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "wrong user name or password")
        session, token = secrets.token_hex(8), secrets.token_urlsafe(32)
        self.server.sessions[session] = token
        where = f"{SESSIONS}/{session}"
        document: Json = {"@odata.id": where, "Id": session, "Name": "Session", "UserName": body.user_name}
        self._answer(HTTPStatus.CREATED, document, {"X-Auth-Token": token, "Location": where})

    def _authenticate(self) -> None:
        token = self.headers.get("X-Auth-Token")
        if token is not None and any(hmac.compare_digest(token, each) for each in list(self.server.sessions.values())):
            return
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        if scheme.lower() != "basic" or not self.server.is_password(user, password):
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "log in first")

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            raise RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, document: Json | None = None, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode() if document is not None else b""
        self.send_response(status)
        for name, value in {"OData-Version": "4.0", **(headers or {})}.items():
            self.send_header(name, value)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="qtrade lab"')
        if self.close_connection:
            # Said aloud, or the client keeps the connection and finds it closed at its next request.
            self.send_header("Connection", "close")
        if document is not None:
            self.send_header("Content-Type", "application/json")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _parse(model: type[_Body], body: bytes) -> _Body:
    return model.model_validate_json(body)
