"""Garbage collection of a store: what may go is a pure function of what is there (`decide`)."""

import base64
import json
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from qtrade.look import Row, render_plan
from qtrade.store.claims import Claim, collecting, read_claims, sweep_marks
from qtrade.store.documents import CHANNELS, BlobRecord, PublishedImage
from qtrade.store.objects import Missing
from qtrade.store.store import Store, retired_key, version_key

_DAY_S = 86400.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIDE_BY_SIDE = 8
_REVOCATION = "/attestation/revocation/"


@dataclass(frozen=True)
class Rules:
    """A version goes when it is beyond the last `keep` of its recipe and older than `within_days`, and nothing needs it.

    Whatever else nothing needs goes when it is older than `grace_s`: a bake under way adds blobs before records, and
    records long before the version. Blobs that are `named` stay: what was built from source lies in the store for good.
    """

    keep: int = 20
    within_days: float = 30.0
    grace_s: float = _DAY_S
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class VersionFact:
    """A published version; `blobs` holds the digests of all that belongs to it, None when its document is unreadable."""

    recipe: str
    version: str
    image_id: str
    age_s: float
    blobs: frozenset[str] | None


@dataclass(frozen=True)
class RecordFact:
    """A record, with the blob that it leads to (empty for a check). `size` in bytes, with its paths."""

    key: str
    digest: str
    size: int
    age_s: float


@dataclass(frozen=True)
class AttestedFact:
    """What is attested of an image: keys of the envelopes, every digest that they name, and whether one revokes it."""

    keys: tuple[str, ...]
    names: frozenset[str]
    is_revoked: bool
    size: int
    age_s: float


@dataclass(frozen=True)
class Facts:
    """What a store holds and who needs it. Ages in seconds; `blobs` maps a digest to (size in bytes, age)."""

    versions: tuple[VersionFact, ...] = ()
    pointed: frozenset[tuple[str, str]] = frozenset()
    hosted: frozenset[str] = frozenset()
    records: tuple[RecordFact, ...] = ()
    attested: Mapping[str, AttestedFact] = field(default_factory=dict)
    blobs: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    claimed: Claim = field(default_factory=Claim)


@dataclass(frozen=True)
class Garbage:
    """What may go. `versions` are (recipe, version, image id), `attestations` keys, `size` bytes in all."""

    versions: tuple[tuple[str, str, str], ...] = ()
    records: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    size: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing may go."""
        return not (self.versions or self.records or self.attestations or self.blobs)


def decide(facts: Facts, rules: Rules) -> Garbage:
    """Return what may go."""
    gone = {fact for fact in _beyond(facts.versions, rules) if not _is_needed(fact, facts)}
    kept = [fact for fact in facts.versions if fact not in gone]
    if any(fact.blobs is None for fact in kept):
        # Nobody can say what a version that cannot be read is made of: the blobs stay.
        return Garbage(tuple(sorted((fact.recipe, fact.version, fact.image_id) for fact in gone)))
    images = {fact.image_id for fact in kept} | facts.hosted
    attested = {
        image_id: fact
        for image_id, fact in facts.attested.items()
        if image_id not in images and not fact.is_revoked and fact.age_s > rules.grace_s
    }
    needed = set(facts.claimed.blobs | rules.named).union(*(fact.blobs or () for fact in kept))
    needed = needed.union(*(fact.names for image_id, fact in facts.attested.items() if image_id not in attested))
    records = {fact for fact in facts.records if not _is_record_needed(fact, needed, facts, rules)}
    needed |= {fact.digest for fact in facts.records if fact not in records}
    blobs = {
        digest: size for digest, (size, age_s) in facts.blobs.items() if digest not in needed and age_s > rules.grace_s
    }
    return Garbage(
        versions=tuple(sorted((fact.recipe, fact.version, fact.image_id) for fact in gone)),
        records=tuple(sorted(fact.key for fact in records)),
        attestations=tuple(sorted(key for fact in attested.values() for key in fact.keys)),
        blobs=tuple(sorted(blobs)),
        size=sum(fact.size for fact in records) + sum(fact.size for fact in attested.values()) + sum(blobs.values()),
    )


def plan_collection(store: Store, rules: Rules) -> Garbage:
    """Return what `collect` would delete now."""
    return decide(read_facts(store), rules)


def collect(store: Store, rules: Rules, agreed: Garbage) -> Garbage:
    """Delete what was `agreed` as far as it still may go, versions first, and return what was deleted.

    Safe beside bakes and promotions: see `claims`. A version that goes leaves its id behind, so that it is never published
    with another one.
    """
    with collecting(store.objects):
        facts = read_facts(store)
        now = decide(facts, rules)
        blobs = tuple(sorted(set(now.blobs) & set(agreed.blobs)))
        doomed = Garbage(
            versions=tuple(sorted(set(now.versions) & set(agreed.versions))),
            records=tuple(sorted(set(now.records) & set(agreed.records))),
            attestations=tuple(sorted(set(now.attestations) & set(agreed.attestations))),
            blobs=blobs,
            size=sum(facts.blobs[digest][0] for digest in blobs),
        )
        for recipe, version, image_id in doomed.versions:
            store.objects.put(retired_key(recipe, version), image_id.encode())
            store.objects.delete(version_key(recipe, version))
        for key in doomed.records:
            store.objects.delete(f"records/{key}.json")
            store.objects.delete(f"records/{key}.paths")
        for key in (*doomed.attestations, *(f"blobs/{digest}" for digest in doomed.blobs)):
            store.objects.delete(key)
    sweep_marks(store.objects)
    store.objects.sweep(rules.grace_s)
    return doomed


def read_facts(store: Store) -> Facts:
    """Return what the store holds, with who needs it. Claims are read first, so that none is missed."""
    now_s = time.time()
    claimed = read_claims(store.objects)
    recipes = store.recipes()
    pointers = {(recipe, name): store.channel(recipe, name) for recipe in recipes for name in CHANNELS}
    return Facts(
        versions=_read_versions(store, now_s),
        pointed=frozenset((recipe, pointer.version) for (recipe, _), pointer in pointers.items() if pointer),
        hosted=frozenset(image_id for host in store.hosts() for image_id in store.host_images(host)),
        records=_read_records(store, now_s),
        attested=_read_attested(store, now_s),
        blobs={
            entry.key.removeprefix("blobs/"): (entry.size, now_s - entry.modified_s)
            for entry in store.objects.list("blobs/")
        },
        claimed=claimed,
    )


def _beyond(versions: Iterable[VersionFact], rules: Rules) -> Iterable[VersionFact]:
    """Return the versions beyond the last and beyond the age."""
    by_recipe = sorted(versions, key=lambda fact: (fact.recipe, fact.age_s, fact.version))
    for _, group in groupby(by_recipe, key=lambda fact: fact.recipe):
        yield from (fact for fact in list(group)[rules.keep :] if fact.age_s > rules.within_days * _DAY_S)


def _is_needed(fact: VersionFact, facts: Facts) -> bool:
    name = (fact.recipe, fact.version)
    return (
        fact.blobs is None or name in facts.pointed or name in facts.claimed.versions or fact.image_id in facts.hosted
    )


def _is_record_needed(fact: RecordFact, needed: set[str], facts: Facts, rules: Rules) -> bool:
    if not fact.digest:
        return fact.age_s <= rules.within_days * _DAY_S
    # A young record may be ahead of its blob, which is being uploaded.
    return fact.age_s <= rules.grace_s or (fact.digest in needed and fact.digest in facts.blobs)


def _read_versions(store: Store, now_s: float) -> tuple[VersionFact, ...]:
    published = store.published()
    contents = _read_all(store, (entry.key for entry in published.values()))
    return tuple(
        _parse_version(*name, now_s - entry.modified_s, contents[entry.key])
        for name, entry in published.items()
        if entry.key in contents
    )


def _parse_version(recipe: str, version: str, age_s: float, content: bytes) -> VersionFact:
    try:
        document = PublishedImage.from_bytes(content).document()
        parts = [*document["layers"], *(document[part] for part in ("kernel", "initrd", "installer"))]
        return VersionFact(recipe, version, document["id"], age_s, frozenset(part["digest"] for part in parts))
    except (ValueError, KeyError, TypeError):
        return VersionFact(recipe, version, "", age_s, None)


def _read_records(store: Store, now_s: float) -> tuple[RecordFact, ...]:
    entries = {entry.key: entry for entry in store.objects.list("records/")}
    found = []
    for key, content in _read_all(store, (key for key in entries if key.endswith(".json"))).items():
        name = key.removeprefix("records/").removesuffix(".json")
        paths = entries.get(f"records/{name}.paths")
        try:
            digest = BlobRecord.from_bytes(content).digest
        except ValueError:  # of another format: of no use to a bake
            digest = "unreadable"
        size = entries[key].size + (paths.size if paths else 0)
        found.append(RecordFact(name, digest, size, now_s - entries[key].modified_s))
    return tuple(found)


def _read_attested(store: Store, now_s: float) -> dict[str, AttestedFact]:
    entries = {entry.key: entry for entry in store.objects.list("attestations/")}
    by_image: dict[str, dict[str, str]] = {}
    for key, content in _read_all(store, entries).items():
        by_image.setdefault(key.split("/")[1], {})[key] = _payload(content)
    return {
        image_id: AttestedFact(
            keys=tuple(payloads),
            names=frozenset(digest for payload in payloads.values() for digest in _DIGEST.findall(payload)),
            is_revoked=any(_REVOCATION in payload for payload in payloads.values()),
            size=sum(entries[key].size for key in payloads),
            age_s=now_s - max(entries[key].modified_s for key in payloads),
        )
        for image_id, payloads in by_image.items()
    }


def _read_all(store: Store, keys: Iterable[str]) -> dict[str, bytes]:
    """Return contents by key, several read side by side; what another collector deleted meanwhile is left out."""
    wanted = list(keys)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        contents = zip(wanted, pool.map(lambda key: _read(store, key), wanted), strict=True)
        return {key: content for key, content in contents if content is not None}


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.objects.get(key)[0]
    except Missing:
        return None


def _payload(content: bytes) -> str:
    """Return the text of an envelope's payload; of one that cannot be read, all of it, so that it protects what it may name."""
    try:
        return base64.b64decode(json.loads(content)["payload"]).decode()
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")


def render_garbage(garbage: Garbage, *, verb: str = "to delete", width: int | None = None) -> str:
    """Return the plan for people: each version by name, the rest by number, bytes in all."""
    counts = f"{len(garbage.blobs)} blobs, {len(garbage.records)} records, {len(garbage.attestations)} attestations"
    rows = [Row(verb, f"{recipe} {version}", image_id[:12]) for recipe, version, image_id in garbage.versions]
    return render_plan(f"{verb}: {counts}; {garbage.size / 2**20:.1f} MiB", rows, width=width)
