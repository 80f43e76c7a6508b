"""A canary in the environment, the keys folder and a vault file of whoever bakes is in nothing that a bake makes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from flash.secrets import VAULT_PASSWORD
from qtrade import process
from qtrade.manifest import Image
from qtrade.settings import load_settings
from qtrade.toolsroot import open_tools
from tests.fakes.canary import PLANTED, Searched, Watched, find_in, search, watch_programs
from tests.fakes.tiny import QTRADE, TinyProject, make_tiny_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

VALUES = {"bake": PLANTED["bake"]}


@pytest.fixture
def tiny(tmp_path) -> TinyProject:
    """A project whose role asks for the environment, as curious ones do."""
    made = make_tiny_project(load_settings(), tmp_path)
    wanted = "{{ lookup('ansible.builtin.env', 'QTRADE_CANARY') | default('nothing', true) }}"
    made.add_task(
        "two", "ansible.builtin.copy", content=f"asked: {wanted}\n", dest="/usr/share/tiny/asked.txt", mode="0644"
    )
    made.add_task("two", "ansible.builtin.shell", cmd="env >/usr/share/tiny/environment.txt")
    keys = made.settings.keys_dir
    keys.mkdir(parents=True)
    for name in ("vault-token-development", "vault-secret-id-production"):
        (keys / name).write_text(VALUES["bake"])
        (keys / name).chmod(0o600)
    (keys / VAULT_PASSWORD).write_text("of the vault\n")
    file = made.settings.project / "secrets/development.yml"
    file.parent.mkdir()
    options = ["--vault-password-file", keys / VAULT_PASSWORD, "--output", file, "-"]
    process.run(
        [process.beside_python("ansible-vault"), "encrypt", *options],
        stdin=yaml.safe_dump({"token": VALUES["bake"]}).encode(),
    )
    return made


def bake(tiny: TinyProject, version: str) -> tuple[bytes, Watched]:
    """Bake with the canary in the environment; return all that was said and seen."""
    env = {
        **tiny.environment,
        "QTRADE_CANARY": VALUES["bake"],
        "PKR_VAR_canary": VALUES["bake"],
        "DD_API_KEY": VALUES["bake"],
    }
    command = [QTRADE, "bake", "--recipe", "tiny", "--version", version, "--json"]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with watch_programs(VALUES, child.pid) as watched:
        out, err = child.communicate(timeout=600)
    assert child.returncode == 0, err.decode()
    return out + err, watched


def search_all(tiny: TinyProject, version: str, folder: Path) -> Searched:
    """Look through everything that a bake wrote, and into its layers: what is compressed there says nothing by itself."""
    image = Image.model_validate_json(tiny.store.read("tiny", version).image_text)
    tools = open_tools(load_settings())
    for layer in image.layers:
        if layer.role == "base":
            continue
        blob = folder / f"{layer.role}.erofs"
        shutil.copyfile(tiny.store.open_blob(layer.digest), blob)
        tools.run("fsck.erofs", f"--extract={folder / layer.role}", blob)
    state = tiny.settings.state_dir
    borrowed = [state / "roots", state / "cache"]
    return search([state, tiny.settings.project, folder], VALUES, without=[*borrowed, tiny.settings.keys_dir])


def test_a_canary_of_the_build_machine_is_in_nothing_that_a_bake_makes(tiny, tmp_path) -> None:
    said, watched = bake(tiny, "1.0")
    sbom = {
        form: tiny.run("images", "sbom", "1.0", "--recipe", "tiny", "--format", form).stdout
        for form in ("cyclonedx", "spdx")
    }
    assert all(len(text) > 1000 for text in sbom.values())
    assert find_in(said + "".join(sbom.values()).encode(), VALUES) == []
    assert watched.hits == set()
    # The samples have seen the programs that a bake consists of.
    assert "packer" in watched.programs, watched.programs
    folder = tmp_path / "layers"
    folder.mkdir()
    found = search_all(tiny, "1.0", folder)
    assert found.hits == ()
    assert found.files > 30
    asked = folder / "two/usr/share/tiny"
    assert (asked / "asked.txt").read_text() == "asked: nothing\n"
    assert "PATH=" in (asked / "environment.txt").read_text()
    # The same search finds one that a role bakes in.
    tiny.add_task(
        "two", "ansible.builtin.copy", content=f"key {VALUES['bake']}\n", dest="/usr/share/tiny/leak.txt", mode="0644"
    )
    tiny.bake("1.1")
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    assert any("leak.txt" in hit for hit in search_all(tiny, "1.1", spoilt).hits)
    assert os.environ.get("QTRADE_CANARY") is None
