"""Which rollbacks are refused, before the host is told anything."""

import pytest

from flash.rollback import _require_config
from qtrade.errors import Refused

pytestmark = pytest.mark.unit

IMAGE = "a" * 64


def test_an_image_without_config_is_refused() -> None:
    with pytest.raises(Refused, match="no config generation") as caught:
        _require_config({"generations": {"b" * 64: "7"}}, "rpc-1", IMAGE)
    assert "bbbbbbbbbbbbbbbb… 7" in caught.value.details


@pytest.mark.parametrize("status", [{"generations": {IMAGE: "7"}}, {}], ids=["it has one", "an older agent"])
def test_an_image_with_config_goes_on(status) -> None:
    _require_config(status, "rpc-1", IMAGE)
