"""Say of a published image what it was made from, what is in it, and which checks it passed: signed statements, each made once."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.store import Store
from qtrade.toolsroot import ToolsRoot
from qtrade.trust.keyring import Keyring
from qtrade.trust.provenance import provenance, read_source, sign_provenance
from qtrade.trust.statements import CVE, SBOM, TEST, statement, verify_statements

if TYPE_CHECKING:
    from bake.cve.scan import Scan

LAYER_TEST = "layer"
REPRODUCIBLE = "reproducible"


def attest_bake(  # noqa: PLR0913 - what a bake knows
    settings: Settings,
    store: Store,
    keyring: Keyring,
    image: Image,
    *,
    started: int,
    ran: int,
    scan: "Scan | None" = None,
    verified: bool = False,
    tools: Callable[[], ToolsRoot] | None = None,
) -> None:
    """Attest provenance (once per version), the specs on the layers and the SBOMs (once per image), and a `scan` that passed.

    That a second bake gave the same bytes (`verified`) is attested once per image too.
    `started` in Unix seconds, `ran` specs held; `tools` gives the tools root where it is needed.
    A bake of the same version that made the same image again adds nothing.
    """
    known = verify_statements(image.id, store.attestations(image.id), keyring.trust)

    def say(kind: str, predicate: dict[str, Any]) -> None:
        envelope = keyring.signer("build").envelope(STATEMENT_TYPE, statement(image.id, kind, predicate))
        store.attest(image.id, envelope)

    if not any(_version_of(one) == image.version for one in known.provenance):
        predicate = provenance(image, read_source(settings.project), started=started, finished=int(time.time()))
        store.attest(image.id, sign_provenance(image, predicate, keyring.signer("build")))
    if not any(one.kind == LAYER_TEST for one in known.tests):
        say(TEST, {"kind": LAYER_TEST, "passed": True, "ran": ran, "failures": []})
    if verified and not any(one.kind == REPRODUCIBLE for one in known.tests):
        say(TEST, {"kind": REPRODUCIBLE, "passed": True, "ran": 1, "failures": []})
    if not known.sboms:
        from bake.sbom import store_documents  # noqa: PLC0415 - a bake with nothing to say needs none of it

        say(SBOM, store_documents(settings, store, image, tools))
    if scan is not None:
        say(CVE, scan.predicate())


def _version_of(predicate: dict[str, Any]) -> str:
    """Return the version that a provenance is of, empty when it does not say."""
    try:
        return str(predicate["buildDefinition"]["externalParameters"]["version"])
    except (KeyError, TypeError):
        return ""
