"""Say of a published image what it was made from, what is in it, and which checks it passed: signed statements, each made once."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtrade.errors import TrustError
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.store import Store
from qtrade.toolsroot import ToolsRoot
from qtrade.trust.images import load_trusted
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
    resolved: Callable[[], list[dict[str, Any]]],
    started: int,
    ran: int,
    scan: "Scan | None" = None,
    verified: bool = False,
    tools: Callable[[], ToolsRoot] | None = None,
) -> None:
    """Attest provenance (once per version), the specs on the layers and the SBOMs (once per image), and a `scan` that passed.

    `resolved` gives what the bake took, `tools` the tools root where it is needed; `started` in Unix seconds, `ran` specs held. That a
    second bake gave the same bytes (`verified`) is attested once per image too. A bake of the same version that made the same image
    again adds nothing but its scan.
    """
    known = verify_statements(image.id, store.attestations(image.id), keyring.trust)

    def say(kind: str, predicate: dict[str, Any]) -> None:
        envelope = keyring.signer("build").envelope(STATEMENT_TYPE, statement(image.id, kind, predicate))
        store.attest(image.id, envelope)

    if not any(_version_of(one) == image.version for one in known.provenance):
        source, finished = read_source(settings.project), int(time.time())
        predicate = provenance(image, source, started=started, finished=finished, resolved=resolved())
        store.attest(image.id, sign_provenance(image, predicate, keyring.signer("build")))
    if not any(one.kind == LAYER_TEST for one in known.tests):
        say(TEST, {"kind": LAYER_TEST, "passed": True, "ran": ran, "failures": []})
    if verified and not any(one.kind == REPRODUCIBLE for one in known.tests):
        say(TEST, {"kind": REPRODUCIBLE, "passed": True, "ran": 1, "failures": []})
    if not known.sboms:
        from bake.sbom import store_documents  # noqa: PLC0415 - a bake with nothing to say needs none of it

        say(SBOM, store_documents(settings, store, image, tools))
    if scan is not None:
        attest_scans(store, keyring, (scan,))


def attest_scans(store: Store, keyring: Keyring, scans: Iterable["Scan"]) -> None:
    """Attest what scans found, also where the gate stops the image: what counts is the last word.

    Raises `NotFound` without the key, `TrustError` for a scan of what no build key signed: image.json alone may claim any id.
    """
    key = keyring.signer("build")
    for scan in scans:
        name, version = scan.image.name, scan.image.version
        if load_trusted(store.read(name, version), name, version, keyring.trust).image != scan.image:
            raise TrustError(f"{name} {version} was changed while it was scanned", resolution="scan it again")
        store.attest(scan.image.id, key.envelope(STATEMENT_TYPE, statement(scan.image.id, CVE, scan.predicate())))


def _version_of(predicate: dict[str, Any]) -> str:
    """Return the version that a provenance is of, empty when it does not say."""
    try:
        return str(predicate["buildDefinition"]["externalParameters"]["version"])
    except (KeyError, TypeError):
        return ""
