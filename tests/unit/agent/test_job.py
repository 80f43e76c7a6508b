import json

import pytest

from flash.agent import job
from flash.agent.errors import AgentError

pytestmark = pytest.mark.unit


def parse(fields):
    return job.parse_job(json.dumps(fields).encode())


def test_installation_job_is_parsed(job_fields, image):
    parsed = parse(job_fields())
    assert parsed.kind == "install"
    assert parsed.image is not None
    assert parsed.image.contents.image_id == parsed.image_id == image.image_id
    assert [blob.role for blob in parsed.image.contents.blobs] == ["base", "agave", "kernel", "initrd"]
    assert parsed.os_disk == job.DiskId(serial="OS1", size_bytes=4 << 30)
    assert parsed.protected == (job.DiskId(serial="LEDGER"),)
    assert parsed.require_running


def test_small_jobs_need_little(job_fields):
    fields = job_fields(image=None, source=None, os_disk=None, layout=None, trust=None, environment=None, kind="reboot")
    assert parse(fields).kind == "reboot"
    fields.update(kind="commit", image_id="a" * 64, require_running=False)
    assert parse(fields).image_id == "a" * 64


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"kind": "format"}, "kind is 'format', allowed is apply or arm"),
        ({"kind": "arm"}, "lacks image_id"),
        ({"nonce": "F" * 64}, "nonce is .*64 lower-case hex"),
        ({"host": "Lab_1"}, "host is 'Lab_1'"),
        ({"host": "lab-1\n"}, "host is"),
        ({"issued_at": True}, "issued_at is True"),
        ({"source": "file:///etc"}, "source is 'file:///etc', allowed is an http"),
        ({"layout": None}, "lacks layout"),
        ({"layout": {"esp_mib": 1, "system_mib": 2048}}, "too small"),
        ({"surprise": 1}, "unknown fields: surprise"),
        ({"os_disk": {"serial": "OS1"}}, "os_disk gives serial; one identifier alone"),
        ({"os_disk": {}}, "os_disk names no disk"),
        ({"os_disk": {"serial": "  ", "wwid": "w"}}, "one identifier alone"),
        ({"protected": {"serial": "x"}}, "protected is"),
        ({"protected": [{}]}, r"protected\[0\] names no disk"),
        ({"cmdline": "a; reboot"}, "GRUB would interpret"),
        ({"cmdline": "a$b"}, "GRUB would interpret"),
        ({"trust": "x"}, "trust is 'x'"),
        ({"environment": "lab"}, "environment is 'lab', allowed is development"),
        ({"environment": None}, "lacks environment"),
        ({"allow_older": 1}, "allow_older is 1"),
    ],
)
def test_bad_field_is_named(job_fields, changes, says):
    with pytest.raises(AgentError, match=says):
        parse(job_fields(**changes))


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"1"])
def test_payload_must_be_an_object(payload):
    with pytest.raises(AgentError) as caught:
        job.parse_job(payload)
    assert caught.value.code == "job-invalid"


def test_id_must_be_that_of_the_list(job_fields, image):
    with pytest.raises(AgentError, match="the list has the id"):
        parse(job_fields(image={**image.as_job(), "id": "0" * 64}))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("qtrade-image 1", "qtrade-image 2", "does not begin"),
        ("layer ", "slice ", "line 2 .*unexpected 'slice'"),
        (" base\n", " ../base\n", "line 2 .*expected layer"),
        (" 6\ninitrd", " -6\ninitrd", "line 4 .*bad digest or size"),
        ("cmdline console", "cmdline `x` console", "GRUB would interpret"),
        ("cmdline", "kernel x 1\ncmdline", "unexpected 'kernel'"),
    ],
)
def test_bad_list_is_refused(job_fields, image, old, new, says):
    with pytest.raises(AgentError, match=says):
        parse(job_fields(image={**image.as_job(), "list": image.list_text.replace(old, new, 1)}))


def test_a_secret_never_stands_in_an_error(job_fields):
    for secret in ("hunter2", {"name": "key", "value": "hunter2!"}, {"name": "key", "value": 7}):
        with pytest.raises(AgentError) as caught:
            parse(job_fields(kind="secret", secret=secret))
        assert "hunter2" not in str(caught.value)
        assert "7" not in str(caught.value)
        with pytest.raises(AgentError) as caught:
            parse(job_fields(kind="secret", secrets=[secret]))
        assert "hunter2" not in str(caught.value)


def test_secrets_come_together_or_in_the_form_of_older_controllers(job_fields):
    one, two = {"name": "key", "value": "YQ=="}, {"name": "token", "value": "Yg=="}
    assert parse(job_fields(kind="secret", secrets=[one, two])).secrets == (
        job.Secret("key", b"a"),
        job.Secret("token", b"b"),
    )
    assert parse(job_fields(kind="secret", secret=one)).secrets == (job.Secret("key", b"a"),)
    for wrong, said in (
        ({}, "holds no secret"),
        ({"secrets": []}, "holds no secret"),
        ({"secrets": one}, "secrets is hidden"),
        ({"secrets": 7}, "secrets is hidden"),
        ({"secrets": [one, one]}, "two values of one"),
        ({"secrets": [one], "secret": one}, "two values of one"),
    ):
        with pytest.raises(AgentError, match=said):
            parse(job_fields(kind="secret", **wrong))


def test_a_promotion_travels_with_its_image(job_fields, image):
    parsed = parse(job_fields(image={**image.as_job(), "promotion": {"payload": "x"}}))
    assert parsed.image is not None
    assert parsed.image.promotion == {"payload": "x"}
    with pytest.raises(AgentError, match="promotion is"):
        parse(job_fields(image={**image.as_job(), "promotion": "x"}))
