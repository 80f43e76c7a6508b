"""Documents that commands print, held against their published schemas."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schemas"
# Of every document; tests compare what stands beside them.
ENVELOPE = ("schema_version", "document")


def fields_of(out: str) -> Any:
    """Return the document in `out`, checked, without what every document has; what is in another's form comes as it is."""
    document = json.loads(out)
    check_document(out)
    if isinstance(document, dict) and "document" in document:
        return {name: value for name, value in document.items() if name not in ENVELOPE}
    return document


def check_document(out: str) -> None:
    """Fail where `out` is a document of ours that its published schema does not allow."""
    try:
        document = json.loads(out)
    except ValueError:
        return
    if isinstance(document, dict) and isinstance(document.get("document"), str):
        faults = [
            f"{fault.json_path}: {fault.message}" for fault in validator(document["document"]).iter_errors(document)
        ]
        assert faults == [], document["document"]


@lru_cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks documents of that name."""
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
