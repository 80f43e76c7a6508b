"""A contract of our own per provider: the calls that a driver makes, what goes in and out, and where each fact comes from."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from tests.fakes.providers import Call
from tests.fakes.providers.provider import Reply

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contract:
    """The calls to one provider's API."""

    document: dict[str, Any]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return list(self.document["calls"])

    def check(self, call: Call, reply: Reply) -> str:
        """Raise what does not hold of a request and its answer; return the call's name in the contract."""
        entry = self._find(call)
        scheme = entry.get("authorization", self.document["authorization"])
        assert call.headers["authorization"].startswith(f"{scheme} "), call
        unknown = set(call.query) - set(entry.get("query", {}))
        assert not unknown, f"{entry['call']}: {unknown} is not in the contract"
        for name, value in call.query.items():
            jsonschema.validate(value, entry["query"][name])
        if "request" in entry:
            jsonschema.validate(call.body, entry["request"])
        else:
            assert call.body is None, f"{entry['call']} has a body"
        if reply.status >= 400:
            jsonschema.validate(reply.body, self.document["error"]["schema"])
        else:
            schema = entry["answers"][str(reply.status)]
            assert reply.body is None if schema is None else jsonschema.validate(reply.body, schema) is None
        return str(entry["call"])

    def _find(self, call: Call) -> dict[str, Any]:
        path = call.path.removeprefix(self.document["base"])
        for entry in self.calls:
            method, _, template = entry["call"].partition(" ")
            if method == call.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return entry
        raise AssertionError(f"{call.method} {path} is not in the contract of {self.document['provider']}")


def load_contract(kind: str) -> Contract:
    """Read a contract by the driver's name."""
    return Contract(json.loads((HERE / f"{kind}.json").read_text()))
