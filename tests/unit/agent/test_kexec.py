"""When the agent may start another kernel, and what it is told to start."""

import platform
from pathlib import Path

import pytest

from flash.agent.errors import AgentError
from flash.agent.kexec import parse_boot, refusal

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="kexec_file_load's number is that of x86-64"),
]

BLOB = {"sha256": "ab" * 32, "size_bytes": 7}
BOOT = {
    "kernel": BLOB,
    "initrd": BLOB,
    "cmdline": "boot=installer qtrade.job=file:///qtrade/job.json",
    "job": {"payload": ""},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "sys/kernel/security/lockdown", b"[none] integrity confidentiality\n")
    write(tmp_path, "proc/sys/kernel/kexec_load_disabled", b"0\n")
    return tmp_path


def write(root: Path, name: str, content: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_kernel_without_bonds_may(root: Path) -> None:
    assert refusal(root) == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sys/kernel/security/lockdown", b"none [integrity] confidentiality", "locked down"),
        ("proc/sys/kernel/kexec_load_disabled", b"1\n", "kexec is disabled"),
        (
            "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
            b"\6\0\0\0\1",
            "Secure Boot is on",
        ),
    ],
)
def test_what_forbids_it_is_said(root: Path, name: str, content: bytes, said: str) -> None:
    write(root, name, content)
    assert said in refusal(root)


def test_a_kernel_without_kexec_cannot(tmp_path: Path) -> None:
    assert "has none" in refusal(tmp_path)


def test_the_boot_of_a_job_is_read() -> None:
    boot = parse_boot(BOOT)
    assert (boot.kernel.sha256, boot.initrd.size_bytes, boot.kernel.verity) == ("ab" * 32, 7, "")


@pytest.mark.parametrize(
    "change",
    [{"kernel": None}, {"initrd": {"sha256": "ab"}}, {"cmdline": "a; reboot"}, {"cmdline": None}, {"job": "x"}],
)
def test_a_bad_boot_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(AgentError):
        parse_boot({**BOOT, **change})
