"""Every command's help ends with examples that are real ones, and names complete wherever they are asked for."""

import shlex

import pytest
from typer.main import get_command

from qtrade.cli import app
from qtrade.cli.complete import complete_environments, complete_hosts, complete_recipes, complete_versions
from qtrade.cli.examples import EXAMPLES
from tests.bench.startup import imported_by_help

pytestmark = pytest.mark.unit

# What an option or argument of that name completes, wherever it stands.
COMPLETED = {
    "host": complete_hosts,
    "env": complete_environments,
    "recipe": complete_recipes,
    "version": complete_versions,
}
# A version that is made here is in no store yet.
NEW = {"bake"}
# Made once: that takes longer than all else here.
ROOT = get_command(app)


def commands(group=app, path: tuple[str, ...] = ()):
    """Give all commands of the command line by their words, with their functions."""
    for one in group.registered_commands:
        yield " ".join((*path, one.name)), one.callback
    for one in group.registered_groups:
        inner = one.typer_instance
        if inner.registered_callback is not None:
            yield " ".join((*path, one.name)), inner.registered_callback.callback
        yield from commands(inner, (*path, one.name))


NAMES = tuple(name for name, _ in commands())


def test_every_command_has_an_example_and_no_example_is_of_none() -> None:
    assert set(EXAMPLES) == set(NAMES)
    assert all(1 <= len(examples) <= 2 for examples in EXAMPLES.values())


@pytest.mark.parametrize("name", NAMES)
def test_help_ends_with_the_examples(name, capsys) -> None:
    ROOT.main([*name.split(), "--help"], prog_name="qtrade", standalone_mode=False)
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-len(EXAMPLES[name]) - 1 :] == [
        "  Examples:",
        *(f"    {example}" for example in EXAMPLES[name]),
    ]


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, examples in EXAMPLES.items() for example in examples]
)
def test_an_example_parses(name, example) -> None:
    program, *words = shlex.split(example)
    assert program == "qtrade"
    assert words[: len(name.split())] == name.split()
    command, context = ROOT, None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "commands") or not rest:
            assert rest == []
            return
        _, command, words = command.resolve_command(context, rest)


def test_an_example_that_does_not_parse_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        test_an_example_parses("gc", "qtrade gc --everything")


def test_names_complete_wherever_they_are_asked_for() -> None:
    found = {}
    for name, function in commands():
        for parameter, annotation in function.__annotations__.items():
            if parameter in COMPLETED and not (name in NEW and parameter == "version"):
                told = [getattr(one, "autocompletion", None) for one in getattr(annotation, "__metadata__", ())]
                found[f"{name} {parameter}"] = COMPLETED[parameter] in told
    assert [place for place, completes in found.items() if not completes] == []
    assert len(found) > 40


def test_help_imports_nothing_heavy() -> None:
    """What makes help slow is imports; how long it takes is measured by `make bench-startup`."""
    assert imported_by_help() == []
