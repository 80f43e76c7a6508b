"""`qtrade drift` on the command line: what it prints in each form, what it refuses, ignores, and how watching ends."""

import json
from datetime import date, timedelta
from functools import partial
from html.parser import HTMLParser

import pytest
import yaml

from flash.agent_link import AgentLink
from flash.drift import look, watch
from qtrade.errors import HostError
from tests.fakes.datadog_server import API_KEY, serve_datadog
from tests.fakes.drifting_host import NAME, PASSWD

pytestmark = pytest.mark.unit

TODAY, LATER = date(2026, 6, 1), date(2026, 6, 2)


def write_ignores(host, *entries: dict) -> None:
    path = host.settings.project / "manifests/drift/development.yaml"
    path.parent.mkdir(exist_ok=True)
    fixed = {
        "kind": "file",
        "subject": "/etc/motd",
        "reason": "the provider writes it",
        "expires": "2999-01-01",
        "by": "ops",
    }
    path.write_text(yaml.safe_dump({"schema_version": 1, "ignores": [{**fixed, **one} for one in entries]}))


def test_no_drift_is_one_line_and_exit_code_0(host, cli) -> None:
    code, out, err = cli("drift", "--host", NAME)
    assert (code, err) == (0, "")
    assert out.startswith("rpc-1 0.1.0: no drift (")


def test_drift_says_what_where_and_how_to_cure_it(host, cli) -> None:
    host.write("etc/motd", "<b>mine</b>\n")
    code, out, _ = cli("drift", "--host", NAME)
    assert code == 2
    assert "file: /etc/motd: a file was changed since the boot" in out
    assert "cure: reboot" in out


@pytest.mark.parametrize(
    "options",
    [
        [], ["--host", NAME, "--env", "development"], ["--host", NAME, "--json", "--html"], ["--env", "development", "--fix"],
        ["--host", NAME, "--fix", "--watch"], ["--host", NAME, "--watch", "--every", "1"],
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(host, cli, options) -> None:
    assert cli("drift", *options)[0] == 2
    assert host.image


def test_an_environment_without_hosts_is_refused(host, cli) -> None:
    code, _, err = cli("drift", "--env", "staging")
    assert (code, "has no hosts" in err) == (4, True)


def test_an_environment_shows_all_of_its_hosts(host, cli) -> None:
    manifests = host.settings.project / "manifests/hosts"
    fields = yaml.safe_load((manifests / "rpc-1.yaml").read_text())
    (manifests / "rpc-2.yaml").write_text(yaml.safe_dump({**fields, "name": "rpc-2"}))
    document = json.loads(cli("drift", "--env", "development", "--json")[1])
    first, second = document["hosts"]
    assert (first["drifted"], second["host"], document["drifted"]) == (False, "rpc-2", True)
    # The one host there is answers as rpc-1 to both.
    assert [(one["kind"], one["subject"]) for one in second["findings"]] == [("unobserved", "host")]


class Tags(HTMLParser):
    """The tags of a page, what it refers to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_runs_nothing_that_a_host_says(host, cli) -> None:
    host.write("etc/<script>alert(1)</script>", "x")
    code, out, _ = cli("drift", "--host", NAME, "--html")
    page = Tags(out)
    assert code == 2
    assert "/etc/<script>alert(1)</script>" in page.text.replace("\n", "")
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.refers == ["#rpc-1"]


def test_what_the_ignore_list_names_is_told_and_no_drift(host, cli) -> None:
    host.write("etc/motd", "mine\n")
    write_ignores(host, {"subject": "/etc/mo*"})
    code, out, _ = cli("drift", "--host", NAME)
    assert code == 0
    assert "ignored until 2999-01-01 (ops: the provider writes it): file: /etc/motd" in out


@pytest.mark.parametrize("other", [{"kind": "user"}, {"subject": "/etc/m"}, {"host": "rpc-2"}], ids=str)
def test_an_entry_for_something_else_ignores_nothing(host, cli, other) -> None:
    host.write("etc/motd", "mine\n")
    write_ignores(host, other)
    assert cli("drift", "--host", NAME)[0] == 2


@pytest.mark.parametrize(("day", "code"), [(TODAY, 0), (LATER, 2)])
def test_an_entry_counts_to_the_end_of_its_last_day_and_is_told_afterwards(host, cli, monkeypatch, day, code) -> None:
    host.write("etc/motd", "mine\n")
    write_ignores(host, {"expires": TODAY.isoformat()})
    seconds = (day - date(1970, 1, 1)) / timedelta(seconds=1)
    monkeypatch.setattr(look, "Looker", partial(look.Looker, now=lambda: seconds + 86399))
    found, out, _ = cli("drift", "--host", NAME)
    assert found == code
    assert ("expired on 2026-06-01" in out) == (day is LATER)


@pytest.mark.parametrize(
    "change", [{"reason": "short"}, {"expires": "never"}, {"kind": "all"}, {"forever": True}], ids=str
)
def test_a_wrong_ignore_list_is_refused_with_its_place(host, cli, change) -> None:
    write_ignores(host, change)
    code, _, err = cli("drift", "--host", NAME)
    assert code == 3
    assert "manifests/drift/development.yaml" in err


def test_a_host_that_does_not_answer_is_drift_that_nobody_has_seen(host, cli, monkeypatch) -> None:
    def lost(*_: object, **__: object) -> str:
        raise HostError("rpc-1 cannot be reached over SSH", resolution="look at its console")

    monkeypatch.setattr(AgentLink, "observe", lost)
    code, out, _ = cli("drift", "--host", NAME)
    assert code == 2
    assert "unobserved: host: nobody could look" in out


def test_a_manifest_whose_config_cannot_be_rendered_is_told_and_stops_nothing(host, cli) -> None:
    path = host.settings.project / "manifests/hosts/rpc-1.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "config": {"no_such_value": 1}}))
    code, out, _ = cli("drift", "--env", "development")
    assert code == 2
    assert "unobserved: config: nobody could look" in out
    assert "no_such_value" in out


def test_an_image_that_this_store_does_not_have_is_told(host, cli) -> None:
    path = host.folder / "run/system/images" / host.image.id / "image.json"
    path.write_text(path.read_text().replace('"version":"0.1.0"', '"version":"9.9.9"'))
    code, out, _ = cli("drift", "--host", NAME)
    assert code == 2
    assert "unobserved: image: nobody could look" in out


def test_another_host_key_is_called_so(host, cli, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise HostError("rpc-1 shows another SSH host key than the pinned one")

    monkeypatch.setattr(AgentLink, "observe", refuse)
    document = json.loads(cli("drift", "--host", NAME, "--json")[1])
    assert [one["kind"] for one in document["hosts"][0]["findings"]] == ["host_key", "unobserved"]


def test_watching_prints_every_round_and_ends_with_the_last_ones_code(host, cli, monkeypatch) -> None:
    def sleep(seconds: float) -> None:
        assert 29 < seconds <= 30
        host.write("etc/passwd", f"{PASSWD}mallory:x:0:0::/:/bin/sh\n")

    monkeypatch.setattr(watch, "watch", partial(watch.watch, sleep=sleep))
    code, out, _ = cli("drift", "--host", NAME, "--watch", "--every", "30", "--rounds", "2", "--json")
    decoder, documents = json.JSONDecoder(), []
    while out.strip():
        document, end = decoder.raw_decode(out.lstrip())
        documents.append(document["drifted"])
        out = out.lstrip()[end:]
    assert (code, documents) == (2, [False, True])


def test_by_policy_drift_is_told_and_no_host_is_touched_by_a_policy_that_only_notifies(host, cli, monkeypatch) -> None:
    path = host.settings.project / "manifests/environments/development.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "drift": {"policy": "notify"}}))
    host.write("etc/motd", "mine\n")
    with serve_datadog() as datadog:
        monkeypatch.setenv("DD_API_KEY", API_KEY)
        monkeypatch.setenv("QTRADE_DATADOG_URL", datadog.url)
        assert cli("drift", "--host", NAME)[0] == 2
        assert datadog.events == []
        for _ in range(2):
            assert cli("drift", "--host", NAME, "--policy")[0] == 2
        assert [one["title"] for one in datadog.events] == ["rpc-1: 1 drifted"]


def test_ctrl_c_ends_watching_with_the_code_of_the_last_round(host, cli, monkeypatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    host.write("etc/motd", "mine\n")
    monkeypatch.setattr(watch, "watch", partial(watch.watch, sleep=interrupt))
    code, out, err = cli("drift", "--host", NAME, "--watch")
    assert (code, out.count("1 drifted"), "Traceback" in err) == (2, 1, False)
