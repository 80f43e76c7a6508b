"""Two processes that publish one version with two ids: one winner, one clear error, on any store."""

import pytest

from tests.fakes.racer import publish_in_two_processes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_one_process_wins_and_the_other_is_told(kind, tmp_path, request) -> None:
    environment = {"QTRADE_STORE": str(tmp_path / "store")}
    if kind == "s3":
        server = request.getfixturevalue("server")
        environment = {"QTRADE_STORE": "s3://images/race", "QTRADE_S3_ENDPOINT": server.url}
    outcome = publish_in_two_processes(environment, tmp_path, versions=5)
    for version, (winners, errors, stored) in outcome.items():
        assert len(winners) == 1, version
        assert stored == winners[0]
        (error,) = errors
        assert f"version {version} of demo exists with another id" in error
        assert "To mend it: choose another version" in error
