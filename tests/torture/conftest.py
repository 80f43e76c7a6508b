"""What is too long for every run: the fixtures of `tests/rigs.py`, the seed, and where logs stay."""

import random
from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.fakes.identity_rig import all_hosts, fleet, operator
from tests.rigs import bios, image_010, pytest_sessionstart, settings, uefi

__all__ = ["all_hosts", "bios", "fleet", "image_010", "operator", "pytest_sessionstart", "settings", "uefi"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the seed that repeats a run, and how many points of each kind are tried."""
    parser.addoption("--seed", type=int, help="the seed of an earlier run, which repeats its points")
    parser.addoption("--points", type=int, help="points of each kind of cut (default: what docs/torture.md says)")
    parser.addoption("--minutes", type=float, help="begin no further round of kills after so long; other seeds go on")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once; workers take that of the main process."""
    if config.getoption("seed", None) is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"torture: repeat with --seed {config.getoption('seed')}"


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("seed"))


@pytest.fixture(scope="session")
def logs(settings: Settings, seed: int) -> Path:
    """Where a run with this seed keeps what it saw; `make torture` says so too."""
    folder = settings.state_dir / "torture" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
