"""Whatever runs while a step is made is in its key: read from the imports of the makers, so that a new module cannot be forgotten."""

import re
from importlib.metadata import requires, version

import pytest

from bake.components.builder import ENGINE_FILES
from bake.inputs import read_inputs
from bake.lock.document import Lock, LockedCollection, LockedPackage
from qtrade.settings import Settings
from tests.fakes.examples import make_settings, sha
from tests.fakes.import_graph import CODE, files_that_run

pytestmark = pytest.mark.unit

MAKERS = {
    "base": "bake/base.py",
    "layer": "bake/layer.py",
    "initrd": "bake/initramfs.py",
    "installer": "bake/initramfs.py",
}
BY_DIGEST = "gets bytes that the lock names by digest, and they are compared when they are used"
# What runs with the makers and is in no key, each with its reason. A name that ends in / stands for all of a folder.
NO_INPUTS = {
    "qtrade/store/": "keeps what was made, by digest",
    "qtrade/manifest/": "reads recipes; each value that counts is in the key, which test_wrong_hits.py proves",
    "bake/plan.py": "makes the keys",
    "bake/unsealed.py": "keeps what was made, by digest",
    "bake/inputs.py": "makes the keys",
    "bake/lock/document.py": "reads the lock; each entry that counts is in the key",
    "bake/lock/wants.py": "says whether the lock fits the recipe",
    "bake/components/__init__.py": "finds components; their identity is in the key",
    "bake/lock/apt.py": BY_DIGEST,
    "bake/lock/cache.py": BY_DIGEST,
    "bake/lock/checksums.py": BY_DIGEST,
    "bake/lock/connections.py": BY_DIGEST,
    "bake/lock/debs.py": BY_DIGEST,
    "bake/lock/download.py": BY_DIGEST,
    "bake/lock/files.py": BY_DIGEST,
    "bake/lock/packages.py": BY_DIGEST,
    "bake/lock/web.py": BY_DIGEST,
    "qtrade/clock.py": "shifts the clock of a second bake, which is compared and never published",
    "qtrade/errors.py": "says what went wrong",
    "qtrade/live.py": "says what goes on",
    "qtrade/log.py": "says what goes on",
    "qtrade/redaction.py": "says what went wrong",
    "qtrade/reporter.py": "says what goes on",
    "qtrade/settings.py": "says where things are; `--verify` finds whoever reads that",
    "bake/__init__.py": "holds no code",
    "bake/lock/__init__.py": "holds no code",
    "qtrade/__init__.py": "holds qtrade's version, which no role reads",
}
# The same, of one kind of step only.
NO_INPUTS_HERE = {
    ("initrd", "bake/pack.py"): "takes the digest of a finished file",
    ("installer", "bake/pack.py"): "takes the digest of a finished file",
    ("initrd", "bake/grub.py"): "runs for the installer alone",
    ("build", "bake/tools.py"): "makes the tools root, of which a builder root's files do not depend",
}
# What ansible-core needs and no layer's bytes depend on.
NO_RENDERERS = {
    "cryptography": "opens vaults, and the seal refuses images that hold one",
    "resolvelib": "installs collections",
}
TOOL = LockedPackage(name="tar", version="1", architecture="amd64", sha256=sha("tar"), size=1, filename="pool/tar.deb")
LOCK = Lock(
    recipe="demo", suite="trixie", wants={}, collections={"x.y": LockedCollection(version="1.2")}, tools=(TOOL,)
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


def is_no_input(kind: str, path: str) -> bool:
    return (kind, path) in NO_INPUTS_HERE or any(
        path == name or (name.endswith("/") and path.startswith(name)) for name in NO_INPUTS
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_every_file_that_runs_while_a_step_is_made_is_in_its_key(settings, kind) -> None:
    fields = read_inputs(settings, (), {}, LOCK).code[kind]
    wanted = {path for path in files_that_run(MAKERS[kind]) if not is_no_input(kind, path)}
    others = {path for path in fields if path.endswith(".py") and not path.startswith("flash/agent/")}
    assert others == wanted
    assert not {path for path in fields if is_no_input(kind, path)}


def test_every_file_that_runs_while_a_component_is_built_is_in_its_key() -> None:
    running = files_that_run("bake/components/builder.py")
    assert {path for path in running if not is_no_input("build", path)} == set(ENGINE_FILES)


@pytest.mark.parametrize("kind", ["initrd", "installer"])
def test_what_an_initial_ram_filesystem_is_copied_from_is_in_its_key(settings, kind) -> None:
    copied = {"initrd": {"bake/initramfs/os"}, "installer": {"bake/initramfs/installer", "bake/grub", "flash/agent"}}
    files = {
        str(path.relative_to(CODE))
        for folder in copied[kind]
        for path in (CODE / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files
    assert files <= set(read_inputs(settings, (), {}, LOCK).code[kind])


def test_no_exception_is_left_over() -> None:
    running = {kind: files_that_run(start) for kind, start in MAKERS.items()}
    everything = set().union(*running.values())
    assert {name for name in NO_INPUTS if not any(path.startswith(name) for path in everything)} == set()
    running["build"] = files_that_run("bake/components/builder.py")
    assert {pair for pair in NO_INPUTS_HERE if pair[1] not in running[pair[0]]} == set()


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("from bake.whole_file import write_whole", "bake/whole_file.py"),
        ("def f():\n    import bake.ids", "bake/ids.py"),
        ('RUN = "python -m bake.role_docs"', "bake/role_docs.py"),
    ],
    ids=["an import", "a lazy import", "a program of its own"],
)
def test_a_new_module_of_a_maker_is_noticed(monkeypatch, tmp_path, line, file) -> None:
    tree = tmp_path / "code"
    for path in {*files_that_run(MAKERS["layer"]), file}:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text((CODE / path).read_text())
    (tree / "bake/layer.py").write_text((CODE / "bake/layer.py").read_text() + f"\n{line}\n")
    monkeypatch.setattr("tests.fakes.import_graph.CODE", tree)
    assert file in files_that_run(MAKERS["layer"])
    assert not is_no_input("layer", file)


def test_programs_and_libraries_that_make_layers_are_inputs_with_their_versions(settings) -> None:
    found = read_inputs(settings, (), {}, LOCK).versions
    pending, needed = ["ansible-core"], set()
    while pending:
        name = pending.pop().lower()
        if name not in needed and name not in NO_RENDERERS:
            needed.add(name)
            needs = [line for line in requires(name) or () if "extra ==" not in line]
            pending += [re.split(r"[^\w.-]", line)[0] for line in needs]
    assert set(found["layer"]) == {*needed, "python", "tools", "collection x.y"}
    assert {name: found["layer"][name] for name in needed} == {name: version(name) for name in needed}
    assert found["layer"]["collection x.y"] == "1.2"


def test_the_tools_root_is_an_input_of_all_that_its_programs_make(settings) -> None:
    def digests(lock: Lock) -> dict[str, str]:
        versions = read_inputs(settings, (), {}, lock).versions
        return {kind: fields["tools"] for kind, fields in versions.items() if "tools" in fields}

    before = digests(LOCK)
    assert set(before) == {"base", "layer", "installer"}
    other = TOOL.model_copy(update={"sha256": sha("other tar")})
    after = digests(LOCK.model_copy(update={"tools": (other,)}))
    assert all(before[kind] != after[kind] for kind in before)
