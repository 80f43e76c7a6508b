"""Hosts, their environments, and what an environment allows."""

import pytest
import yaml

from flash.inventory import check_allowed, list_hosts, load_environment, load_host
from qtrade.errors import BadInput, NotFound, Refused
from qtrade.settings import Settings
from tests.fakes.examples import host_fields, make_environment, make_host, make_image, make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    write_project(settings)
    return settings


def write_lab_host(settings: Settings, name: str) -> None:
    path = settings.state_dir / "lab" / name / "host.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(host_fields(name=name)))


def test_a_host_of_the_manifests_is_found(settings) -> None:
    assert load_host(settings, "rpc-1") == make_host()


def test_a_host_of_the_lab_is_found(settings) -> None:
    write_lab_host(settings, "lab-1")
    assert load_host(settings, "lab-1").name == "lab-1"
    assert list_hosts(settings) == ("lab-1", "rpc-1")


@pytest.mark.parametrize("name", ["rpc-2", "../hosts/rpc-1", "../../manifests/hosts/rpc-1"])
def test_an_unknown_host_lists_the_known_ones(settings, name) -> None:
    write_lab_host(settings, "lab-1")
    with pytest.raises((NotFound, BadInput)) as caught:
        load_host(settings, name)
    if name == "rpc-2":
        assert caught.value.exit_code == 4
        assert caught.value.details == "known hosts: lab-1, rpc-1"
        assert "manifests/hosts/rpc-2.yaml" in caught.value.resolution


def test_a_manifest_that_describes_another_host_is_refused(settings) -> None:
    path = settings.project / "manifests/hosts/rpc-1.yaml"
    path.rename(path.with_name("rpc-9.yaml"))
    with pytest.raises(BadInput, match="is the manifest of rpc-1, not of rpc-9"):
        load_host(settings, "rpc-9")


def test_the_environment_of_a_host_is_loaded(settings) -> None:
    assert load_environment(settings, make_host()).name == "development"
    with pytest.raises(NotFound, match="production"):
        load_environment(settings, make_host(environment="production"))


def test_a_file_that_describes_another_environment_is_refused(settings) -> None:
    folder = settings.project / "manifests/environments"
    (folder / "development.yaml").rename(folder / "production.yaml")
    with pytest.raises(BadInput, match="describes the environment development, not production"):
        load_environment(settings, make_host(environment="production"))


def test_standins_are_for_environments_that_allow_them() -> None:
    image, host = make_image(), make_host(environment="production")
    production = make_environment(name="production", allow_standins=False)
    with pytest.raises(Refused, match=r"demo 0\.1\.0 holds stand-ins, which production does not allow") as caught:
        check_allowed(host, production, image)
    assert caught.value.details == "stand-ins: agent"
    check_allowed(make_host(), make_environment(), image)
    real = tuple(part.model_copy(update={"standin": False}) for part in image.components)
    check_allowed(host, production, make_image(components=real))


def test_an_image_of_another_recipe_is_refused() -> None:
    with pytest.raises(Refused, match="runs images of recipe other, not demo"):
        check_allowed(make_host(recipe="other"), make_environment(), make_image())
