"""HashiCorp Vault as its API documents it, in small: KV v2, three ways to log in, policies, leases, seal; and the identities of GitHub.

It is strict: what the API does not know is refused, as Vault does, and noted in `strange`. Shapes of answers are those of
developer.hashicorp.com/vault/api-docs: "HTTP API" (errors, status codes), secret/kv/kv-v2 (data, metadata, versions),
auth/approle (login), auth/jwt (login), auth/token (lookup-self, renew-self). GitHub's is that of
docs.github.com/en/actions/reference/security/oidc.
"""

import base64
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fakes.loopback import QuietHandler, serve_on_loopback

ROLE_ID, SECRET_ID = "59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8", "84896a0c-1347-aa90-a4f6-aca8b7558780"
REPOSITORY = "example/qtrade"
REQUEST_TOKEN = "github-request-token-of-the-test"
# "permission denied" with the status 403 and "Vault is sealed" with 503: "HTTP API", status codes.
DENIED = (403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
SEALED = (503, {"errors": ["Vault is sealed"]})
Answer = tuple[int, Any]


@dataclass
class Issued:
    """A token: where it may read, list and write (`mount/prefix`), and until when."""

    prefix: str
    ends: float
    never_after: float
    renewable: bool
    may: tuple[str, ...] = ("read",)


@dataclass
class KvServer:
    """What is served at `url`. `secrets` maps `mount/path` to versions; `ttl_s` and `max_ttl_s` are of tokens; `clock` may be moved."""

    url: str = ""
    sealed: bool = False
    mounts: tuple[str, ...] = ("secret",)
    prefix: str = "secret/qtrade/development"
    may: tuple[str, ...] = ("read", "list", "create", "update")
    ttl_s: int = 1200
    max_ttl_s: int = 7200
    renewable: bool = True
    namespace: str = ""
    audience: str = ""
    secret_ids: list[str] = field(default_factory=lambda: [SECRET_ID])
    secrets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    custom: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, Issued] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    moved_s: float = 0.0
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def now(self) -> float:
        return time.time() + self.moved_s

    def put(self, path: str, *, deletes: str = "", **data: Any) -> None:
        """Write a version of the secret at `path` of the mount `secret`."""
        versions = self.secrets.setdefault(f"secret/{path}", [])
        created = datetime.fromtimestamp(self.now(), UTC).isoformat().replace("+00:00", "946Z")
        versions.append({"data": data, "created_time": created, "deletion_time": deletes, "destroyed": False})

    def value(self, path: str, key: str) -> str:
        return str(self.secrets[f"secret/{path}"][-1]["data"][key])

    def issue(self, prefix: str | None = None, *, ttl_s: int | None = None, may: tuple[str, ...] | None = None) -> str:
        """Make a token as an administrator does; without a life (0) it never ends."""
        token = f"hvs.{secrets.token_urlsafe(24)}"
        life = self.ttl_s if ttl_s is None else ttl_s
        now = self.now()
        ends = now + life if life else float("inf")
        self.tokens[token] = Issued(
            self.prefix if prefix is None else prefix, ends, now + self.max_ttl_s, self.renewable, may or self.may
        )
        return token

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.requests.append(f"{handler.command} {address.path}")
        if address.path == "/github/token":
            status, document = self._github(handler, dict(parse_qsl(address.query)))
        else:
            status, document = self._vault(handler, address.path, dict(parse_qsl(address.query)), body)
        content = b"" if document is None else json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _vault(self, handler: BaseHTTPRequestHandler, path: str, query: dict[str, str], body: bytes) -> Answer:  # noqa: PLR0911 - a door
        route = path.removeprefix("/v1/")
        if not path.startswith("/v1/") or "//" in path or "/../" in path:
            return self._refuse(404, f"unsupported path {path}")
        if handler.headers.get("X-Vault-Request") != "true":
            return self._refuse(412, "missing 'X-Vault-Request' header")
        if (handler.headers.get("X-Vault-Namespace") or "").strip("/") != self.namespace:
            return self._refuse(404, "no such namespace")
        if self.sealed:
            return SEALED
        try:
            document = json.loads(body) if body else {}
        except ValueError:
            return self._refuse(400, "failed to parse JSON input")
        if route.startswith("auth/") and route.endswith("/login"):
            return self._login(handler, route, document)
        token = handler.headers.get("X-Vault-Token") or ""
        held = self.tokens.get(token)
        if held is None or held.ends <= self.now():
            return DENIED
        if route.startswith("auth/token/"):
            return self._token(handler.command, route.removeprefix("auth/token/"), token, held, document)
        return self._kv(handler.command, route, query, held, document)

    def _refuse(self, status: int, why: str) -> Answer:
        self.strange.append(why)
        return status, {"errors": [why]}

    def _login(self, handler: BaseHTTPRequestHandler, route: str, document: dict[str, Any]) -> Answer:  # noqa: PLR0911 - a door
        if handler.command not in ("POST", "PUT"):
            return self._refuse(405, "unsupported operation")
        match route:
            case "auth/approle/login":
                if set(document) != {"role_id", "secret_id"}:
                    return self._refuse(400, "missing role_id or secret_id")
                if document["role_id"] != ROLE_ID or document["secret_id"] not in self.secret_ids:
                    return 400, {"errors": ["invalid role or secret ID"]}
            case "auth/jwt/login":
                if set(document) != {"role", "jwt"}:
                    return self._refuse(400, "missing role or jwt")
                if wrong := self._check_jwt(document["jwt"]):
                    return 400, {"errors": [f"error validating token: {wrong}"]}
                if document["role"] != "qtrade-deploy":
                    return 400, {"errors": [f"role {json.dumps(document['role'])} could not be found"]}
            case _:
                return DENIED
        token = self.issue()
        return 200, self._auth(token, self.tokens[token])

    def _auth(self, token: str, held: Issued) -> dict[str, Any]:
        auth = {
            "client_token": token, "accessor": "fd6c9a00-d2dc-3b11-0be5-af7ae0e1d374", "policies": ["default", "qtrade"],
            "token_policies": ["default", "qtrade"], "metadata": None, "lease_duration": int(held.ends - self.now()),
            "renewable": held.renewable,
        }  # fmt: skip
        return {**_envelope(None), "auth": auth}

    def _token(self, method: str, verb: str, token: str, held: Issued, document: dict[str, Any]) -> Answer:
        if (method, verb) == ("GET", "lookup-self"):
            ttl = 0 if held.ends == float("inf") else int(held.ends - self.now())
            data = {
                "id": token,
                "ttl": ttl,
                "renewable": held.renewable,
                "policies": ["default"],
                "path": "auth/token/create",
            }
            return 200, _envelope(data)
        if (method, verb) == ("POST", "renew-self"):
            if set(document) - {"increment"}:
                return self._refuse(400, "unknown parameter")
            if not held.renewable:
                return 400, {"errors": ["lease is not renewable"]}
            held.ends = min(self.now() + self.ttl_s, held.never_after)
            return 200, self._auth(token, held)
        return self._refuse(405, f"unsupported operation {method} {verb}")

    def _kv(self, method: str, route: str, query: dict[str, str], held: Issued, document: dict[str, Any]) -> Answer:  # noqa: PLR0911
        mount, _, rest = route.partition("/")
        kind, _, path = rest.partition("/")
        if mount not in self.mounts:
            # A policy that does not name the mount denies first.
            if held.prefix:
                return DENIED
            return 404, {"errors": [f'no handler for route "{route}". route entry not found.']}
        path = path.rstrip("/")
        wanted = {"GET": "read", "LIST": "list", "POST": "update", "PUT": "update"}.get(method, method)
        inside = f"{mount}/{path}" == held.prefix or f"{mount}/{path}/".startswith(f"{held.prefix}/")
        if wanted not in held.may or not (inside or not held.prefix):
            return DENIED
        match method, kind:
            case "GET", "data":
                return self._read(f"{mount}/{path}", query)
            case (("POST" | "PUT"), "data"):
                return self._write(f"{mount}/{path}", document)
            case "LIST", "metadata":
                return self._list(f"{mount}/{path}/")
        return self._refuse(405, f"unsupported operation {method} {kind}")

    def _read(self, place: str, query: dict[str, str]) -> Answer:
        if set(query) - {"version"}:
            return self._refuse(400, "unknown parameter")
        versions = self.secrets.get(place, [])
        number = int(query.get("version") or 0) or len(versions)
        if not 0 < number <= len(versions):
            return 404, {"errors": []}
        one = versions[number - 1]
        metadata = {key: one[key] for key in ("created_time", "deletion_time", "destroyed")}
        metadata |= {"version": number, "custom_metadata": self.custom.get(place)}
        deleted = one["deletion_time"] and datetime.fromisoformat(one["deletion_time"]).timestamp() <= self.now()
        if one["destroyed"] or deleted:
            return 404, _envelope({"data": None, "metadata": metadata})
        return 200, _envelope({"data": one["data"], "metadata": metadata})

    def _write(self, place: str, document: dict[str, Any]) -> Answer:
        if set(document) - {"data", "options"} or not isinstance(document.get("data"), dict):
            return self._refuse(400, "no data provided")
        cas = document.get("options", {}).get("cas")
        if cas is not None and cas != len(self.secrets.get(place, [])):
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        self.put(place.removeprefix("secret/"), **document["data"])
        written = self.secrets[place][-1]
        metadata = {key: written[key] for key in ("created_time", "deletion_time", "destroyed")}
        return 200, _envelope({**metadata, "version": len(self.secrets[place]), "custom_metadata": None})

    def _list(self, folder: str) -> Answer:
        below = [place.removeprefix(folder) for place in self.secrets if place.startswith(folder)]
        keys = sorted({f"{one.partition('/')[0]}/" if "/" in one else one for one in below})
        return (200, _envelope({"keys": keys})) if keys else (404, {"errors": []})

    def _github(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> Answer:
        if handler.headers.get("Authorization") != f"Bearer {REQUEST_TOKEN}" or "audience" not in query:
            return 401, {"message": "Unauthorized"}
        claims = {
            "iss": "https://token.actions.githubusercontent.com",
            "aud": query["audience"],
            "repository": REPOSITORY,
        }
        signed = ".".join(
            _encode(json.dumps(part).encode())
            for part in ({"alg": "RS256", "typ": "JWT"}, {**claims, "exp": int(self.now()) + 300})
        )
        return 200, {
            "count": 1,
            "value": f"{signed}.{_encode(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}",
        }

    def _check_jwt(self, jwt: str) -> str:
        """Return what is wrong with an identity token, empty for nothing."""
        signed, _, signature = jwt.rpartition(".")
        try:
            self.key.public_key().verify(_decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_decode(signed.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return "failed to verify signature"
        if claims["aud"] != (self.audience or self.url):
            return "invalid audience (aud) claim: audience claim does not match any bound audience"
        return "" if claims["repository"] == REPOSITORY and claims["exp"] > self.now() else "claim does not match"


def _envelope(data: Any) -> dict[str, Any]:
    return {
        "request_id": "075a19cd-4e56-a3ca-d956-7609819831ec", "lease_id": "", "renewable": False, "lease_duration": 0,
        "data": data, "wrap_info": None, "warnings": None, "auth": None,
    }  # fmt: skip


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def serve_kv() -> Iterator[KvServer]:
    """Serve until the block ends; nothing that the API does not know may have been asked."""
    served = KvServer()

    class Handler(QuietHandler):
        def handle_any(self) -> None:
            served.answer(self)

        do_GET = do_POST = do_PUT = do_LIST = do_DELETE = do_PATCH = handle_any  # noqa: N815

    with serve_on_loopback(Handler) as url:
        served.url = url
        yield served
    assert served.strange == [], served.strange
