"""Which image, and what its metrics are called."""

import pytest

from flash.monitors.names import choose_image, metric_names
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import MetricNames, load_manifest
from qtrade.manifest.image import ImageComponent
from qtrade.store import ChannelPointer, open_store
from tests.fakes.examples import make_image, make_settings, sha
from tests.fakes.monitors import PROJECT, make_environment
from tests.fakes.projects import publish_image

pytestmark = pytest.mark.unit
COMMITTED = load_manifest(MetricNames, PROJECT / "manifests/monitoring/metrics.yaml")


def image_with(version: str, name: str = "geyser"):
    part = ImageComponent(name=name, version=version, sha256=sha(version), standin=False)
    return make_image().model_copy(update={"components": (part,)})


@pytest.mark.parametrize(
    ("version", "prefix"),
    [
        ("12.3.0+solana.3.1.14", "yellowstone_grpc"),
        ("14.1.9+solana.4.1.0", "yellowstone_grpc"),
        ("14.2.0+solana.4.1.0", "yellowstone_grpc_geyser"),
        ("14.10.0+solana.4.1.0", "yellowstone_grpc_geyser"),
        ("15.1.2+solana.4.2.0", "yellowstone_grpc_geyser"),
    ],
)
def test_the_plugin_decides_the_prefix(version, prefix) -> None:
    assert metric_names(COMMITTED, image_with(version)) == {"geyser": prefix}


def test_an_image_without_the_component_is_refused() -> None:
    with pytest.raises(BadInput, match="lacks"):
        metric_names(COMMITTED, image_with("1.0", name="other"))


def test_a_version_before_the_first_entry_is_refused() -> None:
    names = MetricNames.model_validate(
        {"schema_version": 1, "names": {"geyser": {"component": "geyser", "since": {"14.2": "x"}}}}
    )
    with pytest.raises(BadInput, match=r"no entry for geyser 13\.3\.1"):
        metric_names(names, image_with("13.3.1"))


def test_the_channel_chooses_then_the_newest(tmp_path) -> None:
    settings = make_settings(tmp_path)
    store = open_store(settings)
    with pytest.raises(NotFound, match="no version of demo"):
        choose_image(store, make_environment(), "demo", None)
    images = [publish_image(settings, version=version) for version in ("0.1.0", "0.2.0")]
    assert choose_image(store, make_environment(), "demo", None).version == "0.2.0"
    store.move_channel("demo", "production", ChannelPointer("0.1.0", images[0].id, 1), None)
    assert choose_image(store, make_environment(), "demo", None).version == "0.1.0"
    assert choose_image(store, make_environment(name="staging"), "demo", None).version == "0.2.0"
    assert choose_image(store, make_environment(), "demo", "0.2.0").version == "0.2.0"
