"""Which store the settings open."""

import subprocess
import sys

import pytest

from qtrade.settings import S3Address
from qtrade.store import LocalStore, open_store
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image
from tests.fakes.s3_store import CREDENTIALS

pytestmark = pytest.mark.unit


def test_a_folder_opens_without_being_made(tmp_path) -> None:
    settings = make_settings(tmp_path)
    store = open_store(settings)
    assert isinstance(store, LocalStore)
    assert (store.recipes(), store.versions("demo"), store.hosts()) == ((), (), ())
    assert not settings.state_dir.exists()


def test_s3_opens_and_keeps_its_scratch_in_the_state_directory(server, tmp_path) -> None:
    settings = make_settings(tmp_path)
    remote = settings.__class__(settings.project, settings.state_dir, S3Address("images", "a/b", server.url))
    image = publish_image(remote)
    store = open_store(remote)
    assert store.versions("demo") == (image.version,)
    assert all(key.startswith("a/b/") for key in server.objects)
    assert store.open_blob(image.kernel.digest).is_relative_to(settings.state_dir / "store-cache/blobs")
    assert not settings.state_dir.joinpath("store").exists()


_SCRIPT = """
import sys
from pathlib import Path
{block}
from qtrade.cli import main
from qtrade.settings import S3Address, Settings
from qtrade.store import open_store
def run():
    settings = Settings(Path({folder!r}), Path({folder!r}), S3Address("images", "", {endpoint!r}))
    open_store(settings).versions("demo")
main(run)
"""


def run_script(
    tmp_path, *, block: str = "", endpoint: str = "http://127.0.0.1:9", env: dict[str, str]
) -> tuple[int, str]:
    script = _SCRIPT.format(block=block, folder=str(tmp_path), endpoint=endpoint)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    return done.returncode, done.stderr


def test_without_boto3_the_error_says_what_to_install(tmp_path) -> None:
    code, err = run_script(tmp_path, block="sys.modules['boto3'] = None", env=CREDENTIALS)
    assert code == 5
    assert err == "error: the store s3://images needs boto3\nTo mend it: install it: pip install 'qtrade[s3]'\n"


def test_without_credentials_the_error_says_which_to_set(tmp_path) -> None:
    env = {name: value for name, value in CREDENTIALS.items() if "KEY" not in name}
    code, err = run_script(tmp_path, env=env)
    assert code == 3
    assert "there are no credentials for s3://images" in err
    assert "AWS_ACCESS_KEY_ID" in err


def test_a_local_store_does_without_boto3_and_other_slow_imports(tmp_path) -> None:
    script = (
        "import sys; from qtrade.settings import Settings; from qtrade.store import open_store; from pathlib import Path;"
        f"open_store(Settings(Path('.'), Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))).recipes();"
        "print(sorted({'boto3', 'botocore', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
