"""The content that every peer bakes: packages, files, the packages of the stand-ins, and changing one role."""

import shutil
from pathlib import Path

from qtrade.manifest import Recipe
from qtrade.manifest.component import AptComponent

# What a bake reads from the project.
_COPIED = ("manifests", "ansible", "packer", "tests/standins", "flash/agent")
# Where the roles put the components that are folders or files of the project.
_PLACES = {
    "qtrade-agent": "usr/lib/qtrade/agent",
    "agave": "opt/agave/{version}",
    "geyser": "opt/yellowstone/{version}/libyellowstone_grpc_geyser.so",
    "geyser-config-check": "opt/yellowstone/{version}/config-check",
    "qtrade-client": "opt/qtrade-client/{version}",
}
# Must be there before the package: else it makes a database cluster.
EARLY = "etc/postgresql-common/createcluster.conf"


def copy_project(source: Path, target: Path) -> None:
    """Copy what a bake reads of the project."""
    for name in _COPIED:
        shutil.copytree(
            source / name,
            target / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )


def change_role(project: Path, role: str, number: int) -> Path:
    """Change one file of a role that gets into the image: a comment with `number` is added. Return the file."""
    files = sorted(path for path in (project / "ansible/roles" / role).rglob("*") if path.suffix in (".service", ".j2"))
    target = next(path for path in files if "/config/" not in str(path))
    with target.open("a") as sink:
        sink.write(f"# change {number}\n")
    return target


def packages_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the Debian packages of base and layers, the kernel first."""
    layers = [package for layer in recipe.layers for package in layer.packages]
    return (recipe.base.kernel, *recipe.base.packages, *layers)


def standin_debs(recipe: Recipe, pool: Path) -> tuple[Path, ...]:
    """Return the .debs of the recipe's apt components. Raises `FileNotFoundError` when one was not built."""
    found = []
    for component in recipe.components.values():
        if isinstance(component, AptComponent):
            version = component.version.partition(":")[2] or component.version
            path = pool / f"{component.package}_{version}_amd64.deb"
            found.append(path.resolve(strict=True))
    return tuple(found)


def lay_files(project: Path, recipe: Recipe, target: Path) -> None:
    """Write the files of all roles and the components' folders below `target`, as a tool without Ansible would copy them.

    Templates are copied as they are: what they hold does not matter for the time. Files are root's.
    """
    shutil.rmtree(target, ignore_errors=True)
    for layer in recipe.layers:
        role = project / "ansible/roles" / layer.role
        for kind in ("files", "templates"):
            for source in sorted(path for path in (role / kind).rglob("*") if path.is_file()):
                inside = source.relative_to(role / kind)
                place = target / (inside.with_suffix("") if source.suffix == ".j2" else inside)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
                place.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    for name, place in _PLACES.items():
        component = recipe.components[name]
        source, copied = project / getattr(component, "path", ""), target / place.format(version=component.version)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copied)


def file_count(folder: Path) -> int:
    """Return how many files are below `folder`."""
    return sum(1 for path in folder.rglob("*") if path.is_file())
