"""Write the pictures: `python -m docs.site.pictures`."""

from collections.abc import Callable
from pathlib import Path

from docs.site.pictures.canvas import Canvas
from docs.site.pictures.disks import draw_boot, draw_disks
from docs.site.pictures.overview import draw_chain, draw_layers
from docs.site.pictures.states import draw_states
from docs.site.pictures.trust import draw_doors, draw_trust
from qtrade.settings import load_settings

PICTURES: dict[str, Callable[[], Canvas]] = {
    "boot": draw_boot,
    "chain": draw_chain,
    "disks": draw_disks,
    "doors": draw_doors,
    "layers": draw_layers,
    "states": draw_states,
    "trust": draw_trust,
}


def write_pictures(folder: Path) -> None:
    """Write `<name>.svg` of each picture into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().render())


if __name__ == "__main__":
    write_pictures(load_settings().project / "docs/pictures")
