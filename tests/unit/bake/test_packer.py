"""The wrapper of Packer: its arguments, its environment, and when a build counts as ended."""

from pathlib import Path

import pytest

from bake.packer import PackerBuild, environment
from qtrade.errors import ToolError

pytestmark = pytest.mark.unit


@pytest.fixture
def build(tmp_path) -> PackerBuild:
    return PackerBuild(Path("/bin/packer"), Path("packer/layer"), {"role": "app"}, tmp_path / "manifest.json")


def test_a_build_is_one_plain_command(build) -> None:
    assert build.argv() == (
        "env",
        "-C",
        str(build.manifest.parent),
        "TMPDIR=.",
        "/bin/packer",
        "build",
        "-color=false",
        "-on-error=cleanup",
        "-parallel-builds=1",
        "-var",
        "role=app",
        "-var",
        f"manifest={build.manifest}",
        "-var",
        f"proxy_key={build.manifest.parent / 'proxy.key'}",
        "-var",
        f"proxy_public={build.manifest.parent / 'proxy.key.pub'}",
        "packer/layer",
    )


def test_the_idle_proxy_gets_keys_of_its_own(build) -> None:
    build.prepare()
    private, public = build.manifest.with_name("proxy.key"), build.manifest.with_name("proxy.key.pub")
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.read_text().startswith("ssh-ed25519 ")


def test_packer_keeps_to_the_folder_it_is_given_and_calls_nobody(tmp_path) -> None:
    found = environment(tmp_path)
    assert found["CHECKPOINT_DISABLE"] == "1"
    assert {found[name] for name in ("HOME", "PACKER_CONFIG_DIR")} == {str(tmp_path)}
    assert found["PACKER_CACHE_DIR"].startswith(str(tmp_path))


@pytest.mark.parametrize("manifest", [None, "", "{}", '{"builds": []}'])
def test_an_end_without_a_result_is_a_failure(build, manifest) -> None:
    if manifest is not None:
        build.manifest.write_text(manifest)
    with pytest.raises(ToolError, match="packer ended well but"):
        build.check_result()


def test_a_build_in_the_manifest_is_a_result(build) -> None:
    build.manifest.write_text('{"builds": [{"name": "layer"}]}')
    build.check_result()
