"""Who acts, as the environment says."""

import getpass
import socket

import pytest

from qtrade.actor import Actor, Run, read_actor

pytestmark = pytest.mark.unit


def test_a_workflow_names_its_actor_and_run() -> None:
    given = {
        "GITHUB_ACTOR": "octocat",
        "GITHUB_RUN_ID": "4711",
        "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_REPOSITORY": "qtrade/fleet",
        "GITHUB_WORKFLOW": "deploy",
        "GITHUB_EVENT_NAME": "workflow_dispatch",
        "GITHUB_SHA": "c" * 40,
        "SUDO_USER": "runner",
    }
    run = Run("qtrade/fleet", "deploy", "4711", "2", "workflow_dispatch", "c" * 40)
    actor = read_actor(given)
    assert actor == Actor("octocat", socket.gethostname(), run)
    assert actor.describe() == "octocat (deploy, run 4711)"


@pytest.mark.parametrize(
    ("given", "who"), [({"SUDO_USER": "ada"}, "ada"), ({}, getpass.getuser())], ids=["through sudo", "directly"]
)
def test_a_person_is_the_local_account(given, who) -> None:
    actor = read_actor(given)
    assert actor == Actor(who, socket.gethostname(), None)
    assert actor.describe() == f"{who}@{socket.gethostname()}"
