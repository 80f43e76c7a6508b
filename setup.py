"""What pyproject.toml cannot say: a wheel takes the data that a checkout has beside the code, and the repository keeps it once.

`ansible/`, `packer/`, the manifests that come with qtrade and the stand-ins of the lab land in `qtrade/product` of the wheel, under the
paths that they have here (`Settings.find` in qtrade/settings.py looks there). An editable install reads the checkout itself.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
PRODUCT = (
    "ansible",
    "packer",
    "manifests/components",
    "manifests/environments",
    "manifests/ids.yaml",
    "manifests/images",
    "manifests/monitoring",
    "manifests/schemas",
    "manifests/seal.yaml",
    "manifests/units.yaml",
    "tests/standins",
)


class BuildWithProduct(build_py):
    """Copies the data after the modules, executable bits and all."""

    def run(self) -> None:
        """Build the modules, then lay the data beside them."""
        super().run()
        if not self.editable_mode:
            for source, target in self._product().items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def get_outputs(self, *, include_bytecode: bool = True) -> list[str]:
        """Return the files that a build makes, these too."""
        made = [] if self.editable_mode else [str(path) for path in self._product().values()]
        return [*super().get_outputs(include_bytecode), *made]

    def get_source_files(self) -> list[str]:
        """Return the files that a source distribution needs."""
        return [*super().get_source_files(), *(str(path.relative_to(HERE)) for path in self._product())]

    def _product(self) -> dict[Path, Path]:
        """Return each file of the data and where it goes."""
        root = Path(self.build_lib).resolve() / "qtrade/product"
        found = [file for name in PRODUCT for file in _files(HERE / name)]
        return {file: root / file.relative_to(HERE) for file in found}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProduct})
