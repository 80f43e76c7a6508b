"""What no image may hold is found, with layer and path."""

import pytest

from bake.seal import FORBIDDEN, check_layers
from qtrade.errors import Refused
from qtrade.store import BlobRecord
from tests.fakes.examples import make_recipe

pytestmark = pytest.mark.unit

# One path for each forbidden pattern, and one that only looks like it.
EXAMPLES = {
    "etc/ssh/ssh_host_*": ("etc/ssh/ssh_host_ed25519_key", "etc/ssh/sshd_config"),
    "etc/ssl/private/*": ("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ca.pem"),
    "var/lib/dbus/machine-id": ("var/lib/dbus/machine-id", "etc/machine-id"),
    "var/lib/systemd/random-seed": ("var/lib/systemd/random-seed", "usr/lib/systemd/systemd-random-seed"),
    "var/lib/systemd/credential.secret": ("var/lib/systemd/credential.secret", "usr/lib/credential.secret.md"),
    "*/PG_VERSION": ("var/lib/postgresql/17/main/PG_VERSION", "usr/lib/PG_VERSION.txt"),
    "*/.bash_history": ("root/.bash_history", "etc/bash_history"),
    "*/.ansible/*": ("root/.ansible/tmp/x", "etc/ansible/hosts"),
    "*/.ssh/authorized_keys": ("home/x/.ssh/authorized_keys", "etc/ssh/authorized_keys"),
    "*/id.json": ("opt/agave/id.json", "opt/agave/kid.json"),
    "*validator-keypair*.json": ("opt/x/validator-keypair-1.json", "opt/x/validator-keypair.md"),
    "*vote-account-keypair*.json": ("srv/vote-account-keypair.json", "srv/vote-account.json"),
    "root/.config/solana/*": ("root/.config/solana/cli/config.yml", "root/.config/other"),
    "usr/sbin/policy-rc.d": ("usr/sbin/policy-rc.d", "usr/sbin/policy"),
    "etc/dpkg/dpkg.cfg.d/qtrade-bake": ("etc/dpkg/dpkg.cfg.d/qtrade-bake", "etc/dpkg/dpkg.cfg.d/local"),
}


def check(**paths: tuple[str, ...]) -> None:
    check_layers(make_recipe(), {name: BlobRecord(name, name, paths=lines) for name, lines in paths.items()})


def test_every_pattern_has_an_example() -> None:
    assert set(EXAMPLES) == set(FORBIDDEN)


@pytest.mark.parametrize("pattern", EXAMPLES)
def test_a_forbidden_path_is_refused_with_its_layer(pattern) -> None:
    bad, good = EXAMPLES[pattern]
    check(app=(f"f {good}",))
    with pytest.raises(Refused, match=r"found 1 thing") as caught:
        check(host=("f etc/motd",), app=(f"f {bad}",))
    assert caught.value.details == f"  app: {bad}"
    assert caught.value.exit_code == 7


def test_everything_that_is_wrong_is_listed() -> None:
    with pytest.raises(Refused, match=r"found 2 thing") as caught:
        check(host=("f root/.bash_history",), top=("f usr/sbin/policy-rc.d",))
    assert caught.value.details.splitlines() == ["  host: root/.bash_history", "  top: usr/sbin/policy-rc.d"]


def test_unrelated_layers_may_not_touch_one_path() -> None:
    with pytest.raises(Refused) as caught:
        check(app=("f etc/x y.conf",), tool=("f etc/x y.conf",))
    assert caught.value.details == "  app and tool: etc/x y.conf (neither needs the other)"


@pytest.mark.parametrize(
    "lines",
    [
        ("d 0755:0:0 etc/x", "d 0700:0:0 etc/x"),
        ("d 0755:0:0 etc/x", "d 0755:1:0 etc/x"),
        ("d 0755:0:0 etc/x", "f etc/x"),
    ],
    ids=["mode", "owner", "kind"],
)
def test_unrelated_layers_may_not_differ_over_a_folder(lines) -> None:
    with pytest.raises(Refused):
        check(tool=(lines[0],), top=(lines[1],))


def test_unrelated_layers_may_share_an_equal_folder() -> None:
    check(app=("d 0755:0:0 etc/x", "f etc/x/a"), tool=("d 0755:0:0 etc/x", "f etc/x/b"))


@pytest.mark.parametrize(("lower", "upper"), [("base", "tool"), ("host", "app"), ("host", "top"), ("app", "top")])
def test_a_layer_may_change_what_it_stands_on(lower, upper) -> None:
    paths = {lower: ("f etc/x", "d 0755:0:0 srv"), upper: ("f etc/x", "d 0700:0:0 srv")}
    check(**paths)
    check(**dict(reversed(paths.items())))
