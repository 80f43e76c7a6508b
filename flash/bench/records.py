"""Find the measurements of versions in the store; only those whose signatures hold count."""

from flash.bench.compare import Comparison, compare_records
from flash.trust import load_installed
from qtrade.errors import NotFound
from qtrade.manifest import load_environment_named
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.trust.fleet_facts import Bench
from qtrade.trust.statements import verify_statements
from qtrade.trust.trust_set import TrustSet


def read_records(store: Store, recipe: str, version: str, trust: TrustSet) -> tuple[Bench, ...]:
    """Return the measurements of a version, oldest first. Raises `NotFound`, `TrustError`, `Refused` for a revoked one."""
    image = load_installed(store, recipe, version, trust).image
    return verify_statements(image.id, store.attestations(image.id), trust).benches


def compare_versions(  # noqa: PLR0913 - what is compared with what
    settings: Settings,
    store: Store,
    trust: TrustSet,
    recipe: str,
    before: str,
    after: str,
    *,
    only_class: str | None = None,
    environment: str = "staging",
) -> Comparison:
    """Compare two versions by the tolerances of an environment. Raises `NotFound` where neither was measured on such a machine."""
    records = [read_records(store, recipe, version, trust) for version in (before, after)]
    tolerances = load_environment_named(settings, environment).bench.tolerances
    rows = compare_records(records[0], records[1], tolerances, only_class)
    if not rows:
        known = sorted({one.hardware_class for side in records for one in side})
        raise NotFound(
            f"neither {before} nor {after} of {recipe} was measured" + (f" on {only_class}" if only_class else ""),
            details=f"classes that were measured: {'; '.join(known) or 'none'}",
            resolution="run `qtrade bench host --host HOST` and `qtrade bench load --host HOST` with both",
        )
    return Comparison(recipe, before, after, rows)
