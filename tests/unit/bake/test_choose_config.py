"""The initramfs's choice of a config generation, by its own script in a shell, with generations that the agent wrote."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flash.agent import config
from flash.agent.bundle import Bundle, BundleFile
from flash.agent.names import parse_names

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).resolve().parents[3] / "bake/initramfs/os/scripts/qtrade"
IMAGE, OTHER = "a" * 64, "b" * 64
NAMES = parse_names("root:x:0:0::/:/bin/sh\n", "root:x:0:\n")


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(config.os, "chown", lambda *_: None)
    folder = tmp_path / "state/config"
    folder.mkdir(parents=True)
    return folder


def push(folder, generation, image=IMAGE, at=0):
    """Write a generation as the agent does, make it current and the image's."""
    files = (
        BundleFile("fstab", 0o644, "root", "root", f"# {generation}\n".encode()),
        BundleFile("net/x y", 0o644, "root", "root", b""),
    )
    bundle = Bundle("lab-1", generation, image, files, {"payload": generation})
    config.write_generation(folder, bundle, NAMES)
    config.assign(folder, bundle)
    config.switch(folder, generation)
    config.os.utime(folder / generation, (at, at))


def boot(folder, image=IMAGE):
    """Return the fact of the boot and the generation that is current then."""
    said = folder.parents[1] / "said"
    commands = f"""
        . {SCRIPT}
        QTRADE={folder.parents[1]}
        qtrade_note() {{ echo "$*" >>{said}; }}
        qtrade_alarm() {{ echo "$*" >>{said}; }}
        image={image} config=none
        qtrade_choose_config
        echo "$config"
    """
    done = subprocess.run(["sh", "-u", "-c", commands], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip(), config.current_generation(folder), said.read_text() if said.exists() else ""


def test_a_whole_generation_boots(state):
    push(state, "1", at=1)
    push(state, "2", at=2)
    assert boot(state) == ("whole", "2", "")


def test_no_generation_is_no_fault(state):
    assert boot(state) == ("none", "", "")


def test_each_image_boots_with_its_own(state):
    push(state, "1", at=1)
    push(state, "2", OTHER, at=2)
    assert boot(state)[:2] == ("whole", "1")
    assert boot(state, OTHER)[:2] == ("whole", "2")


@pytest.mark.parametrize("fault", ["altered", "missing", "cut", "gone", "no bundle"])
def test_a_damaged_one_gives_way_to_the_last_good_one_of_the_image(state, fault):
    for number in (1, 2):
        push(state, str(number), at=number)
    push(state, "3", OTHER, at=3)
    push(state, "4", at=4)
    file = state / "4/fstab"
    if fault == "altered":
        file.write_text("# X\n")
    elif fault == "missing":
        file.unlink()
    elif fault == "cut":
        (state / "4/.sums").write_text("")
    elif fault == "no bundle":
        (state / "4/.bundle.json").unlink()
    else:
        shutil.rmtree(state / "4")
    fact, current, said = boot(state)
    assert (fact, current) == ("fell_back", "2")
    assert "generation 4 is damaged" in said


def test_any_whole_one_is_better_than_none(state):
    push(state, "1", OTHER, at=1)
    push(state, "2", at=2)
    (state / "2/fstab").unlink()
    assert boot(state)[:2] == ("foreign", "1")
    (state / "1/fstab").unlink()
    assert boot(state)[0] == "broken"


def test_a_generation_of_an_older_agent_counts_as_whole(state):
    push(state, "1", at=1)
    for name in (".sums", ".image"):
        (state / "1" / name).unlink()
    assert boot(state) == ("whole", "1", "")
