"""What is loaded to learn how the kernel writes the image's own rules: its files, and what its own program makes of the allow list."""

import shutil
from pathlib import Path

import pytest

from flash.agent import ruleset
from flash.agent.errors import AgentError
from flash.agent.lower import Lower

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).parents[3]
FOLDER = "usr/lib/qtrade/ufw_solana"
SAVED = "*filter\n:INPUT DROP [1:2]\nCOMMIT\n# next\n# next\ntable ip filter\n"


@pytest.fixture
def image(tmp_path) -> Path:
    """A layer with the role's program and boot rules."""
    layer = tmp_path / "layers/10"
    (layer / FOLDER).mkdir(parents=True)
    shutil.copy(PROJECT / "ansible/roles/ufw_solana/files" / FOLDER / "allow_list.py", layer / FOLDER)
    for version in (4, 6):
        (layer / FOLDER / f"boot.v{version}.rules").touch()
    return layer


def read(tmp_path, monkeypatch, allowed: str | None) -> str:
    """Read the rules with this allow list, and return the script that loads those of the image."""
    asked: list[tuple[str, ...]] = []

    def run(*args: str, **_: object) -> str:
        asked.append(args)
        return SAVED

    monkeypatch.setattr(ruleset, "run", run)
    if allowed is not None:
        (tmp_path / "ufw").mkdir()
        (tmp_path / "ufw/allow.rules").write_text(allowed)
    found = ruleset.read_rules(Lower.mounted(tmp_path / "layers"), tmp_path)
    assert found is not None
    assert (
        found["declared"]
        == found["found"]
        == {"v4": {"filter INPUT": ["policy DROP"]}, "v6": {}, "tables": ["table ip filter"]}
    )
    assert asked[0][:2] == ("sh", "-euc")
    assert asked[1][:4] == ("unshare", "--net", "sh", "-euc")
    return asked[1][4]


def test_the_allow_list_becomes_rules_by_the_images_own_program(tmp_path, monkeypatch, image) -> None:
    script = read(tmp_path, monkeypatch, "in ssh 192.0.2.0/24\nout 2001:db8::/32\n")
    assert f"iptables-restore {image}/{FOLDER}/boot.v4.rules\n" in script
    assert "-A qtrade-allow-in -s 192.0.2.0/24 -p tcp --dport 22 -j ACCEPT\n" in script
    assert "-A qtrade-allow-out -d 2001:db8::/32 -j ACCEPT\n" in script
    assert script.count("--noflush") == 2


@pytest.mark.parametrize("allowed", [None, "", "\n"])
def test_without_an_allow_list_nothing_is_allowed(tmp_path, monkeypatch, image, allowed) -> None:
    assert "--noflush" not in read(tmp_path, monkeypatch, allowed)
    assert image


def test_an_allow_list_that_is_broken_is_told(tmp_path, monkeypatch, image) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read(tmp_path, monkeypatch, "-F INPUT\n")
    assert image


def test_an_image_without_rules_is_told_and_one_without_a_firewall_is_none(tmp_path, monkeypatch, image) -> None:
    (image / FOLDER / "boot.v6.rules").unlink()
    with pytest.raises(AgentError, match=r"no boot\.v6\.rules"):
        read(tmp_path, monkeypatch, None)
    (image / FOLDER / "boot.v4.rules").unlink()
    assert ruleset.read_rules(Lower.mounted(tmp_path / "layers"), tmp_path) is None


@pytest.mark.parametrize("text", ["", "# next", "*filter\nCOMMIT\n# next"])
def test_programs_that_did_not_all_answer_are_no_empty_filter(text) -> None:
    with pytest.raises(AgentError, match="did not all answer"):
        ruleset.parse_saved(text)
