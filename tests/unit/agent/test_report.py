import hashlib
import hmac
import io
import json

import pytest

from flash.agent import install, partition
from flash.agent.errors import AgentError
from flash.agent.job import Layout, parse_job
from flash.agent.journal import Journal
from flash.agent.report import Reporter, sign_report
from flash.agent.status import list_changes

pytestmark = pytest.mark.unit


def test_report_is_signed_with_the_nonce():
    signed = sign_report({"event": "report", "ok": True, "name": "ü"}, "5" * 64)
    rest = '{"event":"report","name":"ü","ok":true}'.encode()
    assert signed["hmac"] == hmac.new(b"5" * 64, rest, hashlib.sha256).hexdigest()


def test_events_are_lines():
    stream = io.StringIO()
    reporter = Reporter(stream=stream)
    reporter.progress("fetch", done=1)
    reporter.report({"ok": True}, "5" * 64)
    first, last = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {"event": "progress", "step": "fetch", "done": 1}
    assert last["event"] == "report"


def test_lost_progress_is_no_fault():
    Reporter("http://127.0.0.1:1/report", io.StringIO()).progress("fetch")


def test_a_nonce_works_once(tmp_path, job_fields):
    job = parse_job(json.dumps(job_fields()).encode())
    Journal(tmp_path / "agent").use_nonce(job)
    with pytest.raises(AgentError, match="was used before"):
        Journal(tmp_path / "agent").use_nonce(job)
    other = parse_job(json.dumps(job_fields(nonce="6" * 64)).encode())
    Journal(tmp_path / "agent").use_nonce(other)
    assert len((tmp_path / "agent/journal").read_text().splitlines()) == 2


def test_a_job_of_an_earlier_holder_is_refused(tmp_path, job_fields):
    def use(**changes):
        Journal(tmp_path).use_lease(parse_job(json.dumps(job_fields(**changes)).encode()))

    use(lease=1_800_000_000)
    use(lease=1_800_000_000)
    use(lease=1_800_000_007)
    with pytest.raises(
        AgentError, match=r"token 1800000000\) who was followed by another \(token 1800000007"
    ) as caught:
        use(lease=1_800_000_000)
    assert caught.value.code == "lease-lost"
    use()  # of a controller without leases
    (tmp_path / "lease").write_text("torn")
    use(lease=1)


def test_parameters_of_the_installer():
    line = "boot=installer qtrade.job=http://h/1 quiet qtrade.root=ab qtrade.job=http://evil/2\n"
    assert install.read_parameters(line) == {"qtrade.job": "http://h/1", "qtrade.root": "ab"}
    with pytest.raises(AgentError, match=r"lacks qtrade\.root"):
        install.read_parameters("qtrade.job=x")


def test_partition_table_is_the_documented_one():
    table = partition.render_table(Layout(64, 2048), "DISK", ("A", "B", "C", "D"))
    assert table.splitlines() == [
        "label: gpt",
        "label-id: DISK",
        "start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios_boot, uuid=A",
        "size=64MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=qtrade-esp, uuid=B",
        "size=2048MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=qtrade-system, uuid=C",
        "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=qtrade-state, uuid=D",
    ]


def test_changes_list_everything_but_folders(tmp_path):
    (tmp_path / "etc/empty").mkdir(parents=True)
    (tmp_path / "etc/x").write_text("")
    (tmp_path / "opt").symlink_to("x")
    assert list_changes(tmp_path) == ["etc/x", "opt"]
