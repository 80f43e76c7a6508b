"""What a machine lacks of its environment's profile; the look is run by a real shell."""

import subprocess

import pytest
from pydantic import ValidationError

from flash import hardware
from flash.hardware import Machine, check_hardware, judge, parse_machine
from qtrade.errors import HostError
from qtrade.manifest.hardware import HardwareProfile
from qtrade.process import Completed
from tests.fakes.examples import make_environment, make_host, make_settings

pytestmark = pytest.mark.unit

PROFILE = HardwareProfile(threads=48, memory_gib=512, link_mbit=10000, cpu_flags=("avx512f", "sha_ni"))
GOOD = Machine(64, 527_000_000, 25000, frozenset({"avx512f", "sha_ni", "sse2"}))


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (GOOD, []),
        (Machine(32, 264_000_000, 1000, frozenset({"sha_ni"})), [
            "32 threads, 48 are asked for", "251.8 GiB of memory, 512 are asked for",
            "a link of 1000 Mbit/s, 10000 are asked for", "a processor without avx512f",
        ]),
        (Machine(64, 527_000_000, -1, GOOD.cpu_flags), ["no link of a known speed, 10000 are asked for"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(machine: Machine, said: list[str]) -> None:
    assert list(judge(PROFILE, machine)) == said


def test_a_profile_that_asks_nothing_takes_any_machine() -> None:
    assert list(judge(HardwareProfile(), Machine(1, 1, -1, frozenset()))) == []


@pytest.mark.parametrize("fields", [{"threads": -1}, {"cpu_flags": ["AVX 512"]}, {"cores": 4}])
def test_a_profile_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HardwareProfile.model_validate(fields)


def test_the_look_tells_of_a_real_machine() -> None:
    done = subprocess.run(["sh", "-c", hardware._LOOK], capture_output=True, text=True, check=True)
    found = parse_machine(done.stdout)
    assert found.threads >= 1
    assert found.memory_kib > 1 << 18
    assert found.cpu_flags


class Target:
    """A host that answers the look."""

    def __init__(self, said: str) -> None:
        self.said = said

    def run(self, text: str, **_: object) -> Completed:
        assert text == hardware._LOOK
        return Completed((), 0, self.said, "")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("8\n65842312\n-1\nfpu sse2\n", "is not the machine that production asks of a rpc: 8 threads"),
        ("not a machine\n", "does not tell what machine it is"),
    ],
)
def test_another_machine_is_refused(tmp_path, monkeypatch, said: str, word: str) -> None:
    monkeypatch.setattr(hardware, "target_for", lambda *_, **__: Target(said))
    environment = make_environment(name="production", hardware={"rpc": {"threads": 48}})
    with pytest.raises(HostError, match=word):
        check_hardware(make_settings(tmp_path), make_host(), environment)


def test_nobody_looks_where_nothing_is_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hardware, "target_for", lambda *_, **__: pytest.fail("looked"))
    environment = make_environment(name="production", hardware={"validator": {"threads": 48}})
    assert check_hardware(make_settings(tmp_path), make_host(), environment) == {}
