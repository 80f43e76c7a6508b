"""Which tools root is used: one for each set of locked packages, and the last one made for who has no lock."""

import pytest

from bake.lock.document import digest_packages
from bake.tools import ensure_tools
from qtrade.errors import ToolError
from qtrade.settings import Settings
from qtrade.toolsroot import has_tools, mark_tools, open_tools
from tests.fakes.examples import make_settings
from tests.fakes.locks import make_package

pytestmark = pytest.mark.unit

OLD, NEW = (make_package("tar", "1.0"),), (make_package("tar", "2.0"),)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A state directory with a finished root for each of `OLD` and `NEW`."""
    settings = make_settings(tmp_path)
    for packages in (OLD, NEW):
        root = settings.state_dir / f"roots/tools-{digest_packages(packages)[:16]}"
        root.mkdir(parents=True)
        mark_tools(root)
    return settings


def test_other_packages_have_another_root(settings) -> None:
    old, new = (ensure_tools(settings, packages).root for packages in (OLD, NEW))
    assert old != new
    assert has_tools(old)
    assert has_tools(new)


def test_who_has_no_lock_gets_the_root_that_was_made_first_here_and_a_whole_one(settings) -> None:
    with pytest.raises(ToolError, match="the tools root is missing"):
        open_tools(settings)
    made = ensure_tools(settings, OLD).root
    ensure_tools(settings, NEW)  # was there already: nobody's tools change under their feet
    assert open_tools(settings).root == made.resolve()
    (made / ".qtrade-key").write_text("of another qtrade")
    ensure_tools(settings, NEW)
    assert open_tools(settings).root == ensure_tools(settings, NEW).root.resolve()


def test_the_one_root_of_an_older_version_gives_way(settings) -> None:
    settings.tools_dir.mkdir()
    (settings.tools_dir / ".qtrade-key").write_text("of an older qtrade")
    made = ensure_tools(settings, NEW).root
    assert settings.tools_dir.is_symlink()
    assert open_tools(settings).root == made.resolve()
