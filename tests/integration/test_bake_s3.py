"""A bake whose store is an S3: layers are uploaded while others are made, and another machine bakes on with them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bake import run
from qtrade.errors import Refused
from qtrade.settings import S3Address, load_settings
from qtrade.store import open_store
from tests.fakes.s3_server import s3_server
from tests.fakes.s3_store import CREDENTIALS, copy_store
from tests.fakes.tiny import make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"


def test_layers_go_up_once_and_serve_another_machine(tmp_path, monkeypatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    tiny = make_tiny_project(load_settings(), tmp_path / "tiny")
    first = tiny.bake("1.0")
    with s3_server() as server:
        copy_store(tiny.store, server)
        remote = replace(tiny.settings, store=S3Address("images", "qtrade", server.url))
        tiny.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/s3.txt", state="touch", mode="0644")
        made = run.bake(remote, tiny.recipe, "1.1", tiny.reporter)
        assert made.built == ("two",)
        (new,) = set(made.image.blobs()) - set(first.image.blobs())
        sent = {target.split("?")[0].rpartition("/")[2] for method, target, _ in server.log if method == "PUT"}
        assert sent & set(made.image.blobs()) == {new}, "what the store had was sent again"
        assert open_store(remote).versions("tiny") == ("1.0", "1.1")
        server.log.clear()
        # The scratch folder of another machine is empty: with nothing to build, it needs no blob at all.
        elsewhere = replace(remote, state_dir=tmp_path / "elsewhere", keys=remote.keys_dir)
        (elsewhere.cache_dir).mkdir(parents=True)
        (elsewhere.state_dir / "locks").symlink_to(remote.state_dir / "locks")
        again = run.bake(elsewhere, tiny.recipe, "1.2", tiny.reporter)
        assert (again.built, again.image.id) == ((), made.image.id)
        assert server.count("GET", "blobs/") == 0
        listed = subprocess.run(
            [QTRADE, "images", "list", "--json"],
            env={**os.environ, "QTRADE_STORE": "s3://images/qtrade", "QTRADE_S3_ENDPOINT": server.url},
            check=True,
            capture_output=True,
            text=True,
        )
        assert [item["version"] for item in json.loads(listed.stdout)["images"]] == ["1.0", "1.1", "1.2"]


def test_a_layer_that_the_seal_refuses_never_leaves_the_machine(tmp_path, monkeypatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    tiny = make_tiny_project(load_settings(), tmp_path / "tiny")
    tiny.bake("1.0")
    good = tiny.tasks("two").read_text()
    with s3_server() as server:
        copy_store(tiny.store, server)
        remote = replace(tiny.settings, store=S3Address("images", "qtrade", server.url))
        before = set(server.objects)
        key = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n-----END PRIVATE KEY-----\n"
        tiny.add_task("two", "ansible.builtin.copy", content=key, dest="/opt/key", mode="0600")
        with pytest.raises(Refused, match="the seal found 1 thing"):
            run.bake(remote, tiny.recipe, "1.1", tiny.reporter)
        (secret,) = (tiny.settings.state_dir / "unsealed/blobs").iterdir()
        assert b"PRIVATE KEY" in secret.read_bytes(), "the secret is not where this test looks for it"
        assert {name for name in set(server.objects) - before if "blobs/" in name} == set()
        assert not [target for method, target, _ in server.log if method != "GET" and secret.name in target]
        assert not list((tiny.settings.state_dir / "store-cache").rglob(f"*{secret.name}*"))
        with pytest.raises(Refused):  # what waits is found, and looked at again
            run.bake(remote, tiny.recipe, "1.1", tiny.reporter)
        tiny.tasks("two").write_text(good + "\n# without the key\n")
        assert run.bake(remote, tiny.recipe, "1.1", tiny.reporter).built == ("two",)
        assert not (tiny.settings.state_dir / "unsealed").exists(), "the refused layer was kept"
        assert not [name for name in server.objects if secret.name in name]
