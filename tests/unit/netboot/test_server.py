"""The flash's HTTP server, asked as hosts ask it."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flash.netboot.delivery import MAX_REPORT_BYTES, Delivery, blobs_in
from flash.netboot.ipxe import EXIT_SCRIPT, BootPlan
from flash.netboot.server import FlashServer, parse_range
from qtrade.errors import ConflictError

pytestmark = pytest.mark.unit

MAC = "52:54:00:aa:bb:01"
DIGEST = "ab" * 32


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(server: FlashServer, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())


@pytest.fixture
def server() -> Iterator[FlashServer]:
    with FlashServer("127.0.0.1", 0, url="http://10.0.2.2:8000") as server:
        yield server


@pytest.fixture
def reports() -> list[Mapping[str, object]]:
    return []


@pytest.fixture
def delivery(tmp_path: Path, reports: list[Mapping[str, object]]) -> Delivery:
    for name, content in {"kernel": b"KERNEL", "initrd": b"INITRD", DIGEST: b"0123456789"}.items():
        (tmp_path / name).write_bytes(content)
    boot = BootPlan(MAC, tmp_path / "kernel", tmp_path / "initrd", root_id="cd" * 32)
    return Delivery(blobs_in(tmp_path), reports.append, lambda url: f"job at {url}".encode(), boot)


def test_installer_is_handed_out_once_to_the_right_mac(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery) as entry:
        assert b"/boot/${netX/mac}.ipxe" in ask(server, "/boot.ipxe?mac=x").body
        assert ask(server, "/boot/52:54:00:aa:bb:02.ipxe").body == EXIT_SCRIPT.encode()
        assert ask(server, f"/boot/{MAC}.ipxe", method="HEAD").status == 200
        first = ask(server, "/boot/52-54-00-AA-BB-01.ipxe").body.decode()
        assert f"kernel {entry.url}/kernel " in first
        assert ask(server, f"/boot/{MAC}.ipxe").body == EXIT_SCRIPT.encode()
        server.deliveries.rearm(entry.token)
        assert b"kernel" in ask(server, f"/boot/{MAC}.ipxe").body


def test_whoever_has_the_path_gets_the_installer_once(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery) as entry:
        assert f"chain --replace {entry.url}/installer.ipxe".encode() in ask(server, f"/{entry.token}/boot.ipxe").body
        assert ask(server, f"/{entry.token}/installer.ipxe", method="HEAD").status == 200
        assert f"kernel {entry.url}/kernel ".encode() in ask(server, f"/{entry.token}/installer.ipxe").body
        assert ask(server, f"/{entry.token}/installer.ipxe").body == EXIT_SCRIPT.encode()
        assert ask(server, f"/boot/{MAC}.ipxe").body == EXIT_SCRIPT.encode(), "one boot, whichever way"


def test_a_flash_with_an_unguessable_path_answers_no_mac(
    server: FlashServer, delivery: Delivery, tmp_path: Path
) -> None:
    assert delivery.boot is not None
    with server.serving(replace(delivery, boot=replace(delivery.boot, asks_by_mac=False))) as entry:
        assert ask(server, f"/boot/{MAC}.ipxe").body == EXIT_SCRIPT.encode()
        assert b"kernel" in ask(server, f"/{entry.token}/installer.ipxe").body
        entry.files["installer.iso"] = tmp_path / "kernel"
        assert ask(server, f"/{entry.token}/installer.iso").body == b"KERNEL"
        assert ask(server, f"/{entry.token}/other.iso").status == 404


def test_a_private_flash_shows_its_blobs_only(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(replace(delivery, make_job=None, boot=None)) as entry:
        assert ask(server, f"/{entry.token}/blobs/{DIGEST}").status == 200
        for name in ("job", "kernel", "initrd"):
            assert ask(server, f"/{entry.token}/{name}").status == 404
        assert ask(server, f"/{entry.token}/installer.ipxe").body == EXIT_SCRIPT.encode()


def test_uefi_hosts_get_ipxe_itself(server: FlashServer, tmp_path: Path) -> None:
    (tmp_path / "loader").write_bytes(b"MZ")
    with FlashServer("127.0.0.1", 0, efi_loader=tmp_path / "loader") as uefi:
        head = ask(uefi, "/ipxe.efi", method="HEAD")
        assert (head.status, head.headers["Content-Type"], head.headers["Content-Length"]) == (
            200,
            "application/efi",
            "2",
        )
        assert ask(uefi, "/ipxe.efi").body == b"MZ"
        assert b"netX/mac" in ask(uefi, "/autoexec.ipxe").body
    assert ask(server, "/ipxe.efi").status == 404


def test_files_of_a_flash(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery) as entry:
        assert len(bytes.fromhex(entry.token)) == 32
        assert ask(server, f"/{entry.token}/kernel").body == b"KERNEL"
        assert ask(server, f"/{entry.token}/initrd").body == b"INITRD"
        assert ask(server, f"/{entry.token}/job").body == f"job at http://10.0.2.2:8000/{entry.token}".encode()
        assert ask(server, f"/{entry.token}/blobs/{DIGEST}").body == b"0123456789"
        for path in (f"blobs/{'00' * 32}", "blobs/../kernel", "blobs/", "", "kernel/x", f"blobs/{DIGEST.upper()}"):
            assert ask(server, f"/{entry.token}/{path}").status == 404
        assert ask(server, f"/{'0' * 64}/kernel").status == 404


def test_paths_end_with_the_flash(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery) as entry:
        pass
    assert ask(server, f"/{entry.token}/job").status == 404
    assert ask(server, f"/boot/{MAC}.ipxe").body == EXIT_SCRIPT.encode()
    assert ask(server, f"/{entry.token}/report", method="POST", body=b"{}\n").status == 404


def test_ranges_and_counts(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery) as entry:
        path = f"/{entry.token}/blobs/{DIGEST}"
        part = ask(server, path, Range="bytes=4-")
        assert (part.status, part.body) == (206, b"456789")
        assert (part.headers["Content-Range"], part.headers["Content-Length"]) == ("bytes 4-9/10", "6")
        assert ask(server, path, Range="bytes=0-0").headers["Content-Range"] == "bytes 0-0/10"
        refused = ask(server, path, Range="bytes=10-")
        assert (refused.status, refused.headers["Content-Range"]) == (416, "bytes */10")
        head = ask(server, path, method="HEAD")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, "10", b"")
        assert entry.bytes_served() == {DIGEST: 7}


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, range(10)),
        ("bytes=0-3", range(4)),
        ("bytes=5-500", range(5, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-30", range(10)),
        ("bytes=-0", None),
        ("bytes=-", range(10)),
        ("bytes=6-5", None),
        ("bytes=0-1,3-4", range(10)),
        ("lines=1-2", range(10)),
    ],
)
def test_parse_range(header: str | None, wanted: range | None) -> None:
    assert parse_range(header, 10) == wanted


def test_reports_arrive_in_order(server: FlashServer, delivery: Delivery, reports: list[Mapping[str, object]]) -> None:
    with server.serving(delivery) as entry:
        lines = [{"event": "progress", "step": "fetch"}, {"event": "report", "ok": True}]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        assert ask(server, f"/{entry.token}/report", method="POST", body=body).status == 204
        assert reports == lines


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[1]\n", 400), (b"x" * (MAX_REPORT_BYTES + 1), 413), (b"\xff\n", 400)]
)
def test_bad_reports_are_refused(
    server: FlashServer, delivery: Delivery, reports: list[Mapping[str, object]], body: bytes, status: int
) -> None:
    with server.serving(delivery) as entry, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.putrequest("POST", f"/{entry.token}/report")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if status != 413:
            connection.send(body)
        assert connection.getresponse().status == status
    assert reports == []


def test_in_place_there_is_nothing_but_blobs_and_reports(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(Delivery(delivery.blobs, delivery.on_report)) as entry:
        assert ask(server, f"/{entry.token}/blobs/{DIGEST}").status == 200
        assert [ask(server, f"/{entry.token}/{name}").status for name in ("kernel", "initrd", "job")] == [404] * 3


def test_one_flash_per_mac(server: FlashServer, delivery: Delivery) -> None:
    with server.serving(delivery), pytest.raises(ConflictError, match="another flash"), server.serving(delivery):
        pass


def test_a_port_in_use_is_named(server: FlashServer) -> None:
    with pytest.raises(ConflictError, match=str(server.port)):
        FlashServer("127.0.0.1", server.port)
