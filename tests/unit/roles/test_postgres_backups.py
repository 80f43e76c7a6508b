"""Where PostgreSQL's backups go: what a recipe and a host make of the config of server and pgBackRest."""

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from flash.config import render_bundle
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

ROLE = Path(__file__).resolve().parents[3] / "ansible/roles/postgres"


# What a recipe may set


@pytest.mark.parametrize(("has_backups", "mode"), [(True, "on"), (False, "off")])
def test_without_backups_nothing_is_archived(mode: str, *, has_backups: bool) -> None:
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True)
    values = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    template = jinja.from_string((ROLE / "templates/etc/postgresql/qtrade/postgresql.conf.j2").read_text())
    lines = template.render({**values, "postgres_backup": has_backups}).splitlines()
    assert f"archive_mode = {mode}" in lines
    assert ("archive_command = '/bin/true'" in lines) is has_backups, "an empty command would keep every segment"
    assert {"fsync = on", "full_page_writes = on", "synchronous_commit = on"} < set(lines)


def render_pgbackrest(**changes: Any) -> configparser.ConfigParser:
    values = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), **changes}
    found = configparser.ConfigParser()
    template = (ROLE / "templates/etc/pgbackrest/pgbackrest.conf.j2").read_text()
    found.read_string(Environment(undefined=StrictUndefined, trim_blocks=True).from_string(template).render(values))
    return found


def test_a_repository_that_hangs_has_a_limit_of_its_own() -> None:
    assert render_pgbackrest(postgres_backup_queue_mib=64)["global"]["archive-push-queue-max"] == "64MiB"


@pytest.mark.parametrize("command", ["backup", "check"])
def test_a_backup_outwaits_the_backlog_of_an_outage(command: str) -> None:
    made = render_pgbackrest()
    assert int(made["global"]["archive-timeout"]) <= 15, "the server waits for archive_command when it is stopped"
    assert int(made[f"global:{command}"]["archive-timeout"]) == 600


# What a host may set


def render(config: dict[str, Any]) -> dict[str, str]:
    inputs = yaml.safe_load((ROLE / "config/inputs.yml").read_text())
    for file in inputs["files"]:
        file["template"] = (ROLE / f"config/templates/{file['path']}.j2").read_text()
    image = make_image(inputs={"postgres": RoleInputs.model_validate(inputs)})
    made = render_bundle(make_host(config=config), make_environment(config={}), image)
    return {file.path: file.content for file in made.files}


def test_without_a_repository_nothing_is_backed_up() -> None:
    files = render({})
    assert files["postgres/pgbackrest.conf"] == ""
    assert "archive_command" not in files["postgres/host.conf"]
    assert "shared_buffers" not in files["postgres/host.conf"]


def test_a_repository_turns_archiving_on_and_is_encrypted() -> None:
    repository = {"type": "s3", "s3-bucket": "b", "s3-endpoint": "s3.example.org", "s3-region": "eu"}
    files = render({"postgres_backup_repository": repository, "postgres_shared_buffers": "4GB"})
    lines = files["postgres/pgbackrest.conf"].splitlines()
    assert lines[0] == "[global]"
    assert {"repo1-type=s3", "repo1-s3-bucket=b", "repo1-cipher-type=aes-256-cbc", "repo1-retention-full=4"} < set(
        lines
    )
    assert "archive_command = '/usr/lib/qtrade/postgres/pgbackrest-archive %p'\n" in files["postgres/host.conf"]
    assert "shared_buffers = 4GB\n" in files["postgres/host.conf"]


@pytest.mark.parametrize("option", ["s3-key", "s3-key-secret", "cipher-pass", "cipher-type", "s3-buckett"])
def test_secrets_and_slips_in_a_repository_are_refused_by_name(option: str) -> None:
    with pytest.raises(BadInput) as caught:
        render({"postgres_backup_repository": {"type": "s3", option: "x"}})
    assert f"postgres_backup_repository.{option}" in str(caught.value.details)


def test_an_sftp_server_is_known_by_its_fingerprint() -> None:
    repository = {"type": "sftp", "path": "/b", "sftp-host": "b.example.org", "sftp-host-user": "q"}
    with pytest.raises(BadInput) as caught:
        render({"postgres_backup_repository": repository})
    assert "postgres_backup_repository.sftp-host-fingerprint" in str(caught.value.details)
    files = render({"postgres_backup_repository": {**repository, "sftp-host-fingerprint": "ab"}})
    assert "repo1-sftp-host-key-check-type=fingerprint" in files["postgres/pgbackrest.conf"].splitlines()


@pytest.mark.parametrize("repository", [{"type": "posix", "path": "/mnt/data/backups"}, {"path": "/backups"}])
def test_a_folder_of_the_host_is_no_repository(repository: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        render({"postgres_backup_repository": repository})
    assert "postgres_backup_repository.type" in str(caught.value.details)
