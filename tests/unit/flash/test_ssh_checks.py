"""What is looked at before a deploy logs in: our own key, its last day, whether a push would lock us out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flash.ssh import operator_target, pin_host_key
from flash.ssh_checks import check_keeps_access, check_login
from qtrade import process
from qtrade.errors import BadInput, HostError, Refused
from qtrade.manifest import Host
from qtrade.settings import Settings
from tests.fakes.examples import host_fields, make_environment, make_settings
from tests.fakes.projects import write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("QTRADE_SSH_IDENTITY", raising=False)
    settings = make_settings(tmp_path)
    pin_host_key(settings, "rpc-1", "ssh-ed25519 AAAA")
    write_project(settings)
    return settings


@pytest.fixture
def identity(tmp_path) -> Path:
    path = tmp_path / "deploy"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])
    return path


def make(identity: Path, *lines: str, **ssh: object) -> Host:
    fields = {
        "ssh": {"identity_file": str(identity), **ssh},
        "config": {"bare_metal_ssh_keys": {"deploy": list(lines)}},
    }
    return Host.model_validate(host_fields(**fields))


def public(identity: Path, *, ends: timedelta | None = None) -> str:
    at = datetime.now(UTC) + (ends or timedelta())
    option = f'expiry-time="{at:%Y%m%d%H%M}" ' if ends is not None else ""
    return option + identity.with_suffix(".pub").read_text().strip()


def warnings(settings: Settings, host: Host) -> list[str]:
    reporter = RecordingReporter()
    check_login(settings, host, reporter)
    return [line for line in reporter.lines if "warning" in line]


def test_a_key_that_is_fit_is_passed_over_in_silence(settings, identity) -> None:
    assert warnings(settings, make(identity)) == []
    assert warnings(settings, make(identity, public(identity))) == []
    assert warnings(settings, make(identity, public(identity, ends=timedelta(days=60)))) == []


def test_a_key_that_ends_soon_is_told_and_one_that_has_ended_is_refused(settings, identity) -> None:
    (said,) = warnings(settings, make(identity, public(identity, ends=timedelta(days=3, hours=1))))
    assert "ends in 3 days" in said
    with pytest.raises(Refused, match="the key of deploy has ended"):
        check_login(settings, make(identity, public(identity, ends=timedelta(hours=-1))), RecordingReporter())


def test_a_key_that_is_missing_or_open_to_others_is_refused(settings, identity) -> None:
    identity.chmod(0o640)
    with pytest.raises(Refused, match=r"ssh\.identity_file: others may read"):
        check_login(settings, make(identity), RecordingReporter())
    identity.unlink()
    with pytest.raises(BadInput, match=r"ssh\.identity_file: .* cannot be read"):
        check_login(settings, make(identity), RecordingReporter())


def test_a_host_without_a_pinned_key_is_not_asked(settings, identity) -> None:
    (settings.state_dir / "known_hosts/rpc-1").unlink()
    with pytest.raises(HostError, match="has no pinned SSH host key") as caught:
        check_login(settings, make(identity), RecordingReporter())
    assert "qtrade hosts keys" in caught.value.resolution


def test_config_that_would_lock_us_out_is_refused(identity) -> None:
    environment = make_environment()
    check_keeps_access(environment, make(identity, "ssh-ed25519 OTHER", public(identity)), "deploy", identity)
    with pytest.raises(Refused, match="does not have our own key"):
        check_keeps_access(environment, make(identity, "ssh-ed25519 OTHER"), "deploy", identity)
    # Nothing is known where the manifests give no keys.
    bare = Host.model_validate(host_fields(ssh={"identity_file": str(identity)}))
    check_keeps_access(environment, bare, "deploy", identity)


def test_each_account_has_a_key_of_its_own(settings, identity, monkeypatch) -> None:
    assert operator_target(settings, make(identity)).identity_file == identity
    host = make(identity, operator_identity_file="/keys/operator")
    assert operator_target(settings, host).identity_file == Path("/keys/operator")
    monkeypatch.setenv("QTRADE_SSH_IDENTITY", "/home/alice/.ssh/id_ed25519_sk")
    assert operator_target(settings, host).identity_file == Path("/home/alice/.ssh/id_ed25519_sk")
    assert operator_target(settings, host).user == "operator"
