"""Checksum files of all shapes."""

import pytest

from bake.lock.checksums import find_checksum
from qtrade.errors import NotFound
from tests.fakes.examples import sha

pytestmark = pytest.mark.unit

WANTED, OTHER = sha("wanted"), sha("other")
NAME = "plugin_1.0+solana.4.2.tar.gz"


@pytest.mark.parametrize(
    "text",
    [
        f"{OTHER}  other\n{WANTED}  {NAME}\n",
        f"{OTHER} *other\n{WANTED} *{NAME}\n",
        f"{WANTED.upper()}  {NAME}\r\n",
        f"{WANTED}  ./{NAME}\n",
        f"{WANTED}  {NAME.replace('+', '%2B')}\n",
        f"SHA256 ({NAME}) = {WANTED}\nSHA256 (other) = {OTHER}\n",
        f"Checksums-Sha256:\n {OTHER} 12 other\n {WANTED} 34 {NAME}\n",
        f"{WANTED}\n",
        f"{WANTED}",
        f"# comment\n\n{WANTED}  {NAME}\n{WANTED}  {NAME}\n",
    ],
)
def test_this_shape_names_the_file(text) -> None:
    assert find_checksum(text, NAME, source="sums") == WANTED


@pytest.mark.parametrize(
    ("text", "brief", "names"),
    [
        ("", "names no digest", "none"),
        ("<html>not found</html>", "names no digest", "none"),
        (f"{OTHER}  other\n", "names no digest", "other"),
        (f"{OTHER}  {NAME}.sig\n{OTHER}  x{NAME}\n", "names no digest", f"{NAME}.sig, x{NAME}"),
        (f"{OTHER}\n{WANTED}\n", "names several digests", "none"),
        (f"{OTHER}  {NAME}\n{WANTED}  {NAME}\n", "names several digests", NAME),
        (f"{WANTED}\n{OTHER}  other\n", "names no digest", "other"),
        (f"{WANTED[:63]}  {NAME}\n", "names no digest", "none"),
    ],
)
def test_this_text_does_not_and_the_names_are_listed(text, brief, names) -> None:
    with pytest.raises(NotFound, match=f"sums {brief} of") as caught:
        find_checksum(text, NAME, source="sums")
    assert caught.value.details == f"files that it names: {names}"
