"""Providers' own API documents, where they stand beside the checkout: requests are checked by them, and answers are made from them.

The documents are the providers' and are not part of this project; QTRADE_CONTRACTS or `../shared/contracts` says where they are.
"""

import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from tests.fakes.providers import Call, FakeProvider
from tests.fakes.providers.provider import Reply

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = {
    "teraswitch": ("teraswitch.swagger.json", "https://api.tsw.io", ""),
    "phoenixnap": ("phoenixnap-bmc.openapi.yaml", "https://api.phoenixnap.com/bmc/v1", "/bmc/v1"),
}


@dataclass(frozen=True)
class Document:
    """One provider's document, where its API is, and the path that the fake has before each of the document's paths."""

    raw: dict[str, Any]
    api: OpenAPI
    base: str
    prefix: str

    def check_request(self, call: Call) -> None:
        """Raise openapi-core's error for a request that the document does not allow."""
        self.api.validate_request(self._request(call))

    def check_answer(self, call: Call, reply: Reply) -> None:
        """Raise openapi-core's error for an answer that the document does not allow."""
        body = json.dumps(reply.body).encode()
        response = MockResponse(body, status_code=reply.status, content_type="application/json")
        self.api.validate_response(self._request(call), response)

    def example(self, call: Call, reply: Reply) -> Reply:
        """Make an answer of that status from the document; what the fake knows (status, keys) goes in on top."""
        path = call.path.removeprefix(self.prefix)
        template = next(each for each in self.raw["paths"] if _fits(each, path))
        answer = self._resolve(self.raw["paths"][template][call.method.lower()]["responses"][str(reply.status)])
        schema = answer["content"]["application/json"]["schema"]
        return replace(reply, body=_merge(self._example(schema), reply.body))

    def _request(self, call: Call) -> MockRequest:
        body = None if call.body is None else json.dumps(call.body).encode()
        return MockRequest(
            self.base.removesuffix(self.prefix),
            call.method.lower(),
            call.path,
            args=dict(call.query),
            headers=dict(call.headers),
            data=body,
            content_type=call.headers.get("content-type", "application/json"),
        )

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            node: Any = self.raw
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    def _example(self, schema: dict[str, Any], depth: int = 0) -> Any:
        schema = self._resolve(schema)
        # Examples of whole objects show what is only ever written, so objects are made field by field.
        shown = () if "properties" in schema else ("example", "default")
        given = [schema[name] for name in shown if schema.get(name) is not None]
        given += schema.get("enum", [])[:1]
        if given or schema.get("nullable"):
            return given[0] if given else None
        kind = schema.get("type", "object")
        if kind == "object":
            fields = schema.get("properties", {})
            # TeraSwitch's documents contain each other, so what nobody requires is left out further down.
            wanted = schema.get("required", fields if depth < 3 else ())
            names = [name for name in wanted if self._is_shown(fields[name])]
            return {name: self._example(fields[name], depth + 1) for name in names}
        if kind == "array":
            return [self._example(schema["items"], depth + 1)] if schema.get("minItems") else []
        return {"string": "a" * schema.get("minLength", 1), "boolean": True}.get(kind, schema.get("minimum", 0))

    def _is_shown(self, schema: dict[str, Any]) -> bool:
        # Enums without values (TeraSwitch's Status) allow nothing, so an example cannot have them.
        schema = self._resolve(schema)
        return schema.get("enum") != [] and not schema.get("writeOnly")


@cache
def find_document(kind: str) -> Document:
    """Return the provider's document; the test is skipped where it does not stand beside the checkout."""
    name, base, prefix = DOCUMENTS[kind]
    folders = [os.environ.get("QTRADE_CONTRACTS"), CHECKOUT.parent / "shared" / "contracts"]
    path = next((Path(folder) / name for folder in folders if folder and (Path(folder) / name).is_file()), None)
    if path is None:
        pytest.skip(f"{name} is not there: set QTRADE_CONTRACTS to the folder with the providers' API documents")
    raw = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    raw.setdefault("servers", [{"url": base}])
    # TeraSwitch's has enums without values, which the standard does not allow; what matters here is what it says of its calls.
    return Document(raw, OpenAPI.from_dict(raw, config=Config(spec_validator_cls=None)), base, prefix)


def answer_from(document: Document, provider: FakeProvider, *, is_in_document: Any) -> list[Call]:
    """Make the fake check each request by the document and answer from it. Returns the list that the checked calls go to."""
    checked: list[Call] = []
    answer = provider.answer

    def from_document(call: Call) -> Reply:
        if not is_in_document(call):
            return answer(call)
        try:
            document.check_request(call)
            reply = document.example(call, answer(call))
            document.check_answer(call, reply)
        except OpenAPIError as error:
            provider.errors.append(error)
            return Reply(501, {"message": str(error)})
        checked.append(call)
        return reply

    provider.answer = from_document  # type: ignore[method-assign]
    return checked


def _fits(template: str, path: str) -> bool:
    ours, theirs = path.split("/"), template.split("/")
    return len(ours) == len(theirs) and all(t.startswith("{") or o == t for o, t in zip(ours, theirs, strict=True))


def _merge(example: Any, known: Any) -> Any:
    if isinstance(example, dict) and isinstance(known, dict):
        return {name: _merge(example.get(name), known.get(name, example.get(name))) for name in {*example, *known}}
    return known
