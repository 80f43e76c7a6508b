"""What a layer's record keeps of its role's declaration, and how it comes to the specs of other roles."""

import pytest

from bake.interfaces import interface_facts, lay_interfaces, read_interfaces
from qtrade.errors import Refused
from qtrade.store import BlobRecord
from tests.fakes.examples import sha

pytestmark = pytest.mark.unit

TEXT = '{"interfaces": []}\n'


def test_a_declaration_goes_from_layer_to_record_to_the_place_where_it_was(tmp_path) -> None:
    declared = tmp_path / "layer/usr/share/qtrade/interfaces.d/agave.json"
    declared.parent.mkdir(parents=True)
    declared.write_text(TEXT)
    (declared.parent / "other.json").write_text("of another role")
    record = BlobRecord(sha("agave"), "agave", facts=interface_facts(tmp_path / "layer", "agave"))
    assert read_interfaces(BlobRecord.from_bytes(record.to_bytes())) == TEXT
    lay_interfaces(tmp_path / "root", record)
    assert [path.name for path in (tmp_path / "root/usr/share/qtrade/interfaces.d").iterdir()] == ["agave.json"]
    assert (tmp_path / "root/usr/share/qtrade/interfaces.d/agave.json").read_text() == TEXT


def test_a_layer_that_declares_nothing_is_told_to_who_wants_to_read_it(tmp_path) -> None:
    record = BlobRecord(sha("geyser"), "geyser", facts=interface_facts(tmp_path, "geyser"))
    with pytest.raises(Refused, match="layer geyser declares no interfaces") as caught:
        lay_interfaces(tmp_path, record)
    assert "specs/image.yml" in caught.value.resolution
    assert list(tmp_path.iterdir()) == []
