"""Waivers: what is signed counts, and nothing else."""

import json
from datetime import date, timedelta

import pytest

from bake.cve.waivers import LONGEST_DAYS, add_waiver, parse_waiver, read_waivers
from qtrade.errors import BadInput, ConflictError, UsageError
from qtrade.manifest import Gate, Waiver
from qtrade.settings import Settings
from qtrade.signing import SigningKey, ensure_key
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 23)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def key(settings) -> SigningKey:
    return ensure_key(settings.keys_dir, "promote")


def waiver(**changes: object) -> Waiver:
    fields = {
        "cve": "CVE-2026-0001",
        "package": "openssl",
        "reason": 'no "server": here, # nor there',
        "expires": "2026-12-31",
        "by": "ops",
    }
    return parse_waiver({**fields, **changes})


def paths(settings: Settings):
    folder = settings.project / "manifests/waivers"
    return folder / "demo.yaml", folder / "demo.waivers.json"


def test_no_file_means_the_default_gate_and_no_waiver(settings, key) -> None:
    found = read_waivers(settings, "demo", (key.public,))
    assert (found.gate, found.signed, found.refused) == (Gate(), (), ())


def test_a_written_waiver_counts_and_a_second_one_joins_it(settings, key) -> None:
    first, second = waiver(), waiver(cve="CVE-2026-0002", package="gtk+3.0")
    for item in (first, second):
        add_waiver(settings, "demo", item, key, TODAY)
    found = read_waivers(settings, "demo", (key.public,))
    assert found.signed == (first, second)
    assert found.refused == ()


def test_a_file_with_comments_and_a_gate_is_continued_as_it_is(settings, key) -> None:
    path, _ = paths(settings)
    path.parent.mkdir()
    text = "# why\nschema_version: 1\ngate: {urgency: medium}\nwaivers:\n"
    path.write_text(
        text
        + "  # none yet\n  - {cve: CVE-2026-0009, package: bash, reason: written by hand, expires: 2026-12-01, by: me}\n"
    )
    add_waiver(settings, "demo", waiver(), key, TODAY)
    assert path.read_text().startswith(text + "  # none yet\n")
    found = read_waivers(settings, "demo", (key.public,))
    assert found.gate.urgency == "medium"
    assert found.signed == (waiver(),)
    assert found.refused == ("CVE-2026-0009 in bash: no trusted signature is over what demo.yaml says",)


def test_a_key_that_is_not_trusted_signs_nothing(settings, key) -> None:
    add_waiver(settings, "demo", waiver(), ensure_key(settings.keys_dir, "stranger"), TODAY)
    assert read_waivers(settings, "demo", (key.public,)).signed == ()
    assert len(read_waivers(settings, "demo", ()).refused) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [("2026-12-31", "2027-12-31"), ("openssl", "linux"), ("CVE-2026-0001", "CVE-2026-0002"), ("ops", "opt")],
)
def test_an_altered_waiver_counts_as_none_and_is_named(settings, key, before: str, after: str) -> None:
    path = add_waiver(settings, "demo", waiver(), key, TODAY)
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    found = read_waivers(settings, "demo", (key.public,))
    assert found.signed == ()
    assert len(found.refused) == 1


def test_an_altered_envelope_counts_as_none(settings, key) -> None:
    add_waiver(settings, "demo", waiver(), key, TODAY)
    _, signatures = paths(settings)
    document = json.loads(signatures.read_text())
    document["envelopes"][0]["payload"] = "e30="
    signatures.write_text(json.dumps(document))
    assert read_waivers(settings, "demo", (key.public,)).signed == ()


def test_a_waiver_of_another_recipe_counts_as_none(settings, key) -> None:
    for path, other in zip(paths(settings), ("rpc.yaml", "rpc.waivers.json"), strict=True):
        add_waiver(settings, "demo", waiver(), key, TODAY) if not path.exists() else None
        path.rename(path.with_name(other))
    assert read_waivers(settings, "rpc", (key.public,)).signed == ()
    assert len(read_waivers(settings, "rpc", (key.public,)).refused) == 1


def test_taking_the_line_out_revokes_the_waiver(settings, key) -> None:
    path = add_waiver(settings, "demo", waiver(), key, TODAY)
    path.write_text("schema_version: 1\nwaivers: []\n")
    assert read_waivers(settings, "demo", (key.public,)).signed == ()


@pytest.mark.parametrize("expires", [TODAY - timedelta(days=1), TODAY + timedelta(days=LONGEST_DAYS + 1)])
def test_a_waiver_ends_from_today_on_and_within_half_a_year(settings, key, expires: date) -> None:
    with pytest.raises(UsageError, match="cannot expire"):
        add_waiver(settings, "demo", waiver(expires=expires), key, TODAY)
    assert not paths(settings)[0].exists()


def test_the_same_cve_and_package_twice_is_a_conflict(settings, key) -> None:
    add_waiver(settings, "demo", waiver(), key, TODAY)
    before = [path.read_text() for path in paths(settings)]
    with pytest.raises(ConflictError):
        add_waiver(settings, "demo", waiver(expires="2026-12-01"), key, TODAY)
    assert [path.read_text() for path in paths(settings)] == before


def test_a_file_that_cannot_be_continued_stays_as_it_is(settings, key) -> None:
    path, signatures = paths(settings)
    path.parent.mkdir()
    path.write_text("schema_version: 1\nwaivers: []\n")
    with pytest.raises(BadInput):
        add_waiver(settings, "demo", waiver(), key, TODAY)
    assert path.read_text() == "schema_version: 1\nwaivers: []\n"
    assert not signatures.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"cve": "2026-1"},
        {"reason": "short"},
        {"expires": "soon"},
        {"package": "Open SSL"},
        {"by": ""},
        {"expires": None},
    ],
)
def test_a_waiver_that_says_too_little_is_refused(changes) -> None:
    with pytest.raises(UsageError) as caught:
        waiver(**changes)
    assert next(iter(changes)) in caught.value.details


def test_a_broken_file_of_signatures_is_an_error_not_no_waivers(settings, key) -> None:
    add_waiver(settings, "demo", waiver(), key, TODAY)
    paths(settings)[1].write_text("[")
    with pytest.raises(BadInput, match="no file of signatures"):
        read_waivers(settings, "demo", (key.public,))
