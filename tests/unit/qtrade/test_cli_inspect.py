"""`images sbom`, `cve`, `waive`, `diff` on the command line: data on stdout, words on stderr, exit codes."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bake.image import sign
from qtrade.cli import main
from qtrade.settings import Settings
from qtrade.signing import ensure_key
from qtrade.store import LocalStore
from qtrade.trust.keyring import load_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.examples import make_settings
from tests.fakes.inventories import cache_inventory, inventory, paragraph, status
from tests.fakes.tracker import TrackerServer, issue, serve_tracker

pytestmark = pytest.mark.unit


class Cli:
    """Runs `main` as the shell would; gives exit code, stdout and stderr."""

    def __init__(self, monkeypatch, capsys) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *args: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["qtrade", "images", *args, "--recipe", "demo"])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = self._capsys.readouterr()
        return int(code), out, err


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    return Cli(monkeypatch, capsys)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    for version, openssl in (("0.1.0", "3.5.1-1"), ("0.2.0", "3.5.2-1")):
        made = inventory(status(paragraph("openssl", openssl)), version=version)
        image = cache_inventory(settings, made)
        LocalStore(settings.store).publish(image, sign(image, ensure_key(settings.keys_dir, "build")))
    return settings


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with serve_tracker({"openssl": {"CVE-2026-0001": issue("resolved", "3.5.2-1")}}) as server:
        yield server


def test_sbom_prints_one_document_in_either_format(cli, settings) -> None:
    code, out, err = cli("sbom", "0.1.0")
    assert (code, err, json.loads(out)["bomFormat"]) == (0, "", "CycloneDX")
    code, out, _ = cli("sbom", "0.1.0", "--format", "spdx")
    assert (code, json.loads(out)["spdxVersion"]) == (0, "SPDX-2.3")


def test_a_version_that_does_not_exist_is_named(cli, settings) -> None:
    for args in (("sbom", "9"), ("cve", "9"), ("diff", "0.1.0", "9")):
        code, out, err = cli(*args)
        assert (code, out) == (4, "")
        assert "0.1.0, 0.2.0" in err


def test_cve_without_a_snapshot_says_how_to_fetch_one(cli, settings) -> None:
    code, out, err = cli("cve", "0.1.0")
    assert (code, out) == (4, "")
    assert "qtrade images cve --update" in err


def test_cve_updates_scans_and_fails_while_the_gate_is_shut(cli, settings, tracker) -> None:
    code, out, err = cli("cve", "0.1.0", "--update", "--url", tracker.url)
    assert code == 7
    assert "blocks CVE-2026-0001 openssl 3.5.1-1: fixed in 3.5.2-1" in out
    assert err.startswith("snapshot ")
    assert "the CVE gate stops demo 0.1.0" in err
    code, out, _ = cli("cve", "0.2.0", "--json")
    assert code == 0
    (document,) = json.loads(out)["reports"]
    assert (document["version"], document["passed"], document["open"]) == ("0.2.0", True, [])


def test_attest_signs_what_was_found_good_or_bad_and_each_scan_anew(cli, settings, tracker) -> None:
    assert cli("cve", "0.1.0", "--update", "--url", tracker.url)[0] == 7
    store, keyring = LocalStore(settings.store), load_keyring(settings)

    def attested(version: str) -> list[bool]:
        image_id = str(store.read("demo", version).document()["id"])
        found = verify_statements(image_id, store.attestations(image_id), keyring.trust).cves
        return [one.is_passed for one in found]

    assert attested("0.1.0") == [], "nobody asked for it"
    assert cli("cve", "0.1.0", "--attest")[0] == 7
    for _ in range(2):
        assert cli("cve", "0.2.0", "--attest")[0] == 0
    assert (attested("0.1.0"), attested("0.2.0")) == ([False], [True, True])
    assert cli("cve", "--update", "--url", tracker.url, "--attest")[0] == 7
    assert (attested("0.1.0"), attested("0.2.0")) == ([False, False], [True, True, True])


def test_a_version_that_no_build_key_signed_is_not_attested(cli, settings, tracker) -> None:
    path = settings.store / "versions/demo/0.2.0.json"
    path.write_text(path.read_text().replace("6.12.1", "6.12.2"))
    code, _, err = cli("cve", "0.2.0", "--update", "--url", tracker.url, "--attest")
    assert code == 6
    assert "image.json was altered" in err
    assert not (settings.store / "attestations").exists()


def test_update_alone_scans_nothing(cli, settings, tracker) -> None:
    code, out, _ = cli("cve", "--update", "--url", tracker.url, "--json")
    assert code == 0
    assert json.loads(out)["url"] == tracker.url


def test_cve_since_shows_the_new_ones_in_json(cli, settings, tracker) -> None:
    cli("cve", "--update", "--url", tracker.url)
    code, out, _ = cli("cve", "0.1.0", "--since", "0.2.0", "--json")
    assert code == 7
    assert [item["cve"] for item in json.loads(out)["reports"][0]["new"]] == ["CVE-2026-0001"]


def test_a_waiver_opens_the_gate_until_its_file_is_altered(cli, settings, tracker) -> None:
    cli("cve", "--update", "--url", tracker.url)
    expires = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    options = ("--package", "openssl", "--reason", "no TLS server here", "--expires", expires, "--by", "ops")
    code, out, err = cli("waive", "CVE-2026-0001", *options)
    assert (code, err) == (0, "")
    path = settings.project / "manifests/waivers/demo.yaml"
    assert out.strip() == str(path)
    assert cli("cve", "0.1.0")[0] == 0
    path.write_text(path.read_text().replace("no TLS", "any TLS"))
    code, out, _ = cli("cve", "0.1.0")
    assert code == 7
    assert "waiver without effect: CVE-2026-0001 in openssl: no trusted signature" in out


def test_a_wrong_waiver_is_a_usage_error_and_makes_no_file(cli, settings) -> None:
    code, _, err = cli("waive", "bug-1", "--package", "p", "--reason", "long enough now", "--expires", "2026-12-01")
    assert code == 2
    assert "cve: " in err
    assert not (settings.project / "manifests/waivers").exists()


def test_diff_prints_text_or_json(cli, settings, tracker) -> None:
    code, out, err = cli("diff", "0.1.0", "0.2.0")
    assert (code, err) == (0, "")
    assert "~ openssl:amd64 3.5.1-1 -> 3.5.2-1" in out
    assert "there is no snapshot" in out
    cli("cve", "--update", "--url", tracker.url)
    code, out, _ = cli("diff", "0.1.0", "0.2.0", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["packages"]["changed"] == [{"name": "openssl:amd64", "before": "3.5.1-1", "after": "3.5.2-1"}]
    assert [item["cve"] for item in document["cves"]["fixed"]] == ["CVE-2026-0001"]
