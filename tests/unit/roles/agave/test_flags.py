"""The table of start flags: every minor renders, and what a version does not take is refused by name."""

import re

import pytest
from ansible.errors import AnsibleFilterError

pytestmark = pytest.mark.unit

VERSIONS = ("3.1.14", "4.0.3", "4.1.2", "4.2.1", "4.3.2")
# Every value that a host may set, so that every flag of the table is passed.
FULL_CONFIG = {
    "rpc_bind": "0.0.0.0",
    "entrypoints": ["entrypoint.mainnet-beta.solana.com:8001", "entrypoint2.mainnet-beta.solana.com:8001"],
    "known_validators": ["7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2"],
    "expected_genesis_hash": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    "expected_shred_version": 50093,
    "vote_account": "CakcnaRDHka2gXyfbEd2d3xsvkJkqsLw2akB3zsN1D2S",
    "limit_ledger_size": 200_000_000,
    "minimal_snapshot_download_speed": 10_485_760,
    "snapshot_max_age_s": 1800,
    "xdp": True,
    "xdp_interface": "eno1",
    "xdp_cpu_cores": "2-3",
    "xdp_zero_copy": True,
}


@pytest.fixture
def command(plans, start, table, tmp_path):
    """Return what the role would start a version with, and what the plan says of it."""

    def make(version, profile, config):
        made = plans.plan_start(table(), version=version, profile=profile, indexes=["program-id"])
        return made, start.plan(made, config, made["flags"], tmp_path, 0)[0]

    return make


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", ["rpc", "validator"])
@pytest.mark.parametrize("config", [FULL_CONFIG, {**FULL_CONFIG, "xdp": False}, {"snapshot_max_age_s": 0}])
def test_every_minor_starts_with_flags_that_it_knows(
    *, version, profile, config, command, command_line, capsys
) -> None:
    """What the role passes is parsed by the stand-in's own table of that version, without a deprecation."""
    made, words = command(version, profile, config)
    options, subcommand, _ = command_line.parse(words, version)
    assert subcommand == ""
    assert "deprecated" not in capsys.readouterr().err
    assert {word for word in words if word.startswith("--")} <= set(made["used"])
    assert ("no-voting" in options) == (profile == "rpc")
    assert ("vote-account" in options) == (profile == "validator" and "vote_account" in config)


@pytest.mark.parametrize(
    ("version", "limit"),
    [("4.2.1", ["--limit-ledger-size", "200000000"]), ("4.3.0", ["--limit-blockstore-size", "400000000"])],
)
def test_ledger_limit_is_renamed_and_doubled(version, limit, command) -> None:
    _, words = command(version, "rpc", FULL_CONFIG)
    assert words[words.index(limit[0]) :][:2] == limit


@pytest.mark.parametrize(("version", "expected"), [("4.1.2", []), ("4.2.1", ["--no-xdp"]), ("4.3.2", ["--no-xdp"])])
def test_xdp_off_is_said_only_where_it_would_be_on(version, expected, plans, start, table) -> None:
    made = plans.plan_start(table(), version=version, profile="rpc")
    assert start.xdp_flags(made["xdp"], {"xdp": False}, []) == expected


@pytest.mark.parametrize(
    ("version", "flag", "message"),
    [
        (
            "4.2.1",
            "--tpu-coalesce-ms 5",
            r"Agave 4\.2\.1 does not start with --tpu-coalesce-ms: 4\.0 removed it; leave it out",
        ),
        (
            "4.2.1",
            "--accounts-db-cache-limit-mb=1",
            r"replaced since Agave 4\.2 .*use --accounts-db-write-cache-limit instead",
        ),
        (
            "4.3.0",
            "--limit-ledger-size 1",
            r"is replaced since Agave 4\.3 \(this is 4\.3\.0\); use --limit-blockstore-size instead",
        ),
        ("4.3.0", "--disable-banking-trace", r"does nothing any more since Agave 4\.3 .*leave it out"),
        ("4.3.2", "--tpu-connection-pool-size 4", r"4\.3 removed it"),
        ("4.1.2", "--poh-pinned-cpu-core 4", r"Agave 4\.1\.2 does not know --poh-pinned-cpu-core: it came with 4\.2"),
        ("4.2.1", "--experimental-retransmit-xdp-zero-copy", r"use --xdp-zero-copy instead"),
    ],
)
def test_flag_of_another_version_is_refused_with_version_and_cure(version, flag, message, plans, table) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        plans.plan_start(table(), version=version, profile="rpc", extra=[flag])


def test_flag_that_a_later_minor_removes_is_taken_before(plans, table) -> None:
    made = plans.plan_start(
        table(), version="4.2.1", profile="rpc", extra=["--tpu-connection-pool-size 4", "--disable-banking-trace"]
    )
    assert made["flags"][-3:] == ["--tpu-connection-pool-size", "4", "--disable-banking-trace"]
    assert {"--tpu-connection-pool-size", "--disable-banking-trace"} <= set(made["used"])


def test_a_planted_removal_in_the_table_hits_the_roles_own_flags(plans, table) -> None:
    planted = table()
    planted["changes"] = {**planted["changes"], "--wal-recovery-mode": {"removed": "4.2", "use": "--planted"}}
    with pytest.raises(
        AnsibleFilterError, match=r"4\.2\.1 does not start with --wal-recovery-mode: 4\.2 removed it; use --planted"
    ):
        plans.plan_start(planted, version="4.2.1", profile="rpc")
    assert plans.plan_start(planted, version="4.1.2", profile="rpc")


@pytest.mark.parametrize(
    "flag",
    ["--rpc-port 1", "--identity /x", "--authorized-voter /x", "--no-xdp", "--entrypoint x:1", "--vote-account x"],
)
def test_what_the_role_or_the_config_sets_is_no_extra_flag(flag, plans, table) -> None:
    with pytest.raises(AnsibleFilterError, match=r"is set by this role or kept from images"):
        plans.plan_start(table(), version="4.2.1", profile="rpc", extra=[flag])


@pytest.mark.parametrize("flag", ["", "-l /x", "ledger", "--a --b", "--Bad", "---x"])
def test_extra_flag_is_one_long_flag(flag, plans, table) -> None:
    with pytest.raises(AnsibleFilterError, match="is not one long flag"):
        plans.plan_start(table(), version="4.2.1", profile="rpc", extra=[flag])


@pytest.mark.parametrize("version", ["4.4.0", "5.0.1", "3.0.0"])
def test_unknown_minor_is_refused_with_what_to_do(version, plans, table) -> None:
    minor = version[:3]
    with pytest.raises(
        AnsibleFilterError,
        match=rf"3\.1, 4\.0, 4\.1, 4\.2, 4\.3, not for {re.escape(minor)}\. Read .* CHANGELOG.*vars/main\.yml",
    ):
        plans.plan_start(table(), version=version, profile="rpc")


@pytest.mark.parametrize("version", ["4.2", "v4.2.1", "latest", ""])
def test_version_is_a_whole_one(version, plans, table) -> None:
    with pytest.raises(AnsibleFilterError, match="has to be a whole version"):
        plans.plan_start(table(), version=version, profile="rpc")


@pytest.mark.parametrize(
    ("version", "variables", "message"),
    [
        ("4.1.2", {"agave_port_range": "8000-8025"}, r"is 25 wide, Agave 4\.1\.2 needs 26; say 8000-8030"),
        ("4.0.3", {"agave_port_range": "8000-8024"}, "is 24 wide, .* needs 25"),
        ("4.2.1", {"agave_gossip_port": 8030}, "8030 is outside"),
        ("4.2.1", {"agave_port_range": "8000-10000"}, "holds 8999|holds 10000|holds 8899"),
        ("4.2.1", {"agave_port_range": "8880-8910", "agave_gossip_port": 8880}, "holds 8899, the port of JSON-RPC"),
        ("4.2.1", {"agave_rpc_port": 8998}, "8999 is the port of the plugin's metrics"),
        ("4.2.1", {"agave_port_range": "8030-8000"}, "has to be two ports"),
        ("4.2.1", {"agave_port_range": "80-8000"}, "has to be two ports"),
    ],
)
def test_ports_that_cannot_work_are_refused(version, variables, message, plans, table) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        plans.plan_start(table(**variables), version=version, profile="rpc")


def test_25_ports_do_for_4_0(plans, table) -> None:
    assert plans.plan_start(table(agave_port_range="8000-8025"), version="4.0.3", profile="rpc")


def test_interfaces_follow_the_variables(plans, table) -> None:
    made = plans.plan_start(
        table(agave_rpc_port=9000, agave_port_range="8100-8140", agave_gossip_port=8101), version="4.2.1", profile="rpc"
    )
    ports = {one["name"]: one.get("port", (one.get("first"), one.get("end"))) for one in made["interfaces"]}
    assert (ports["json-rpc"], ports["websocket"], ports["gossip"], ports["dynamic"]) == (
        9000,
        9001,
        8101,
        (8100, 8140),
    )
    assert set(ports) == {"json-rpc", "websocket", "gossip", "dynamic", "admin"}


def test_ports_of_others_are_refused_where_a_recipe_puts_them(plans, table) -> None:
    moved = {"postgres_port": 8005, "geyser_grpc_listen": ["unix:///run/grpc", "127.0.0.1:8006"]}
    for name, value in moved.items():
        with pytest.raises(AnsibleFilterError, match=r"agave_port_range 8000-8030 holds 800[56], the port of"):
            plans.plan_start(table(**{name: value}), version="4.2.1", profile="rpc")
    with pytest.raises(AnsibleFilterError, match="agave_rpc_port 9599: 9600 is the port of the client's health"):
        plans.plan_start(table(agave_rpc_port=9599), version="4.2.1", profile="rpc")


def test_the_table_has_no_change_without_a_meaning(table) -> None:
    for flag, change in table()["changes"].items():
        assert set(change) <= {"added", "removed", "deprecated", "use", "noop"}, flag
        assert len({"added", "removed", "deprecated"} & set(change)) == 1, flag
        for minor in {"added", "removed", "deprecated"} & set(change):
            assert re.fullmatch(r"\d\.\d", change[minor]), flag


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("3.1.14", ["3.0", "3.1", "4.0"]),
        ("4.0.3", ["3.1", "4.0", "4.1"]),
        ("4.2.1", ["4.1", "4.2", "4.3"]),
        ("4.3.0", ["4.2", "4.3", "4.4"]),
    ],
)
def test_a_minor_takes_the_data_of_its_neighbours(plans, table, version, taken) -> None:
    assert plans.plan_start(table(), version=version, profile="rpc")["data_of"] == taken


@pytest.mark.parametrize(
    ("version", "extra", "core"),
    [
        ("4.2.1", [], 0),
        ("4.2.1", ["--poh-pinned-cpu-core 5"], 5),
        ("4.2.1", ["--poh-pinned-cpu-core=7"], 7),
        ("4.1.2", ["--experimental-poh-pinned-cpu-core 3"], 3),
    ],
)
def test_the_core_of_proof_of_history_is_told(plans, table, version, extra, core) -> None:
    assert plans.plan_start(table(), version=version, profile="rpc", extra=extra)["poh_core"] == core
