"""ufw's files as one ruleset: the same chains and rules in the same order, and no others."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

PROGRAM = Path(__file__).parents[3] / "ansible/roles/ufw_solana/files/usr/lib/qtrade/ufw_solana/compose.py"
POLICIES = {"input": "DROP", "output": "ACCEPT", "forward": "DROP"}
DEFAULTS = 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\nDEFAULT_FORWARD_POLICY=DROP\n'
BEFORE = """# a comment
*filter
:ufw-before-input - [0:0]
:ufw-not-local - [0:0]

-A ufw-before-input -i lo -j ACCEPT
COMMIT
"""
USER = """*filter
:ufw-user-input - [0:0]
:ufw-user-output - [0:0]
:ufw-user-forward - [0:0]
### RULES ###
### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT
COMMIT
"""


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_whole(program: ModuleType) -> None:
    lines = program.compose("ufw", POLICIES, {"before.rules": BEFORE, "user.rules": USER}).splitlines()
    assert lines[:4] == ["*filter", ":INPUT DROP [0:0]", ":OUTPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]"]
    chains = [line for line in lines if line.startswith(":")]
    assert len(chains) == len(set(chains)), "a chain is declared twice"
    rules = [line for line in lines if line.startswith("-")]
    assert rules == [
        *(
            f"-A {built_in} -j ufw-{name}-{built_in.lower()}"
            for built_in in ("INPUT", "OUTPUT", "FORWARD")
            for name in ("before-logging", "before", "after", "after-logging", "reject", "track")
        ),
        "-A ufw-skip-to-policy-input -j DROP",
        "-A ufw-skip-to-policy-output -j ACCEPT",
        "-A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT",
        "-A ufw-track-output -p udp -m conntrack --ctstate NEW -j ACCEPT",
        "-A ufw-skip-to-policy-forward -j DROP",
        "-A ufw-before-input -i lo -j ACCEPT",
        "-A ufw-user-input -p tcp --dport 22 -j ACCEPT",
        "-A ufw-before-input -j ufw-user-input",
        "-A ufw-before-output -j ufw-user-output",
        "-A ufw-before-forward -j ufw-user-forward",
    ]
    assert lines[-1] == "COMMIT"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("*nat", "neither a chain nor a rule"),
        ("-F INPUT", "neither a chain nor a rule"),
        (":INPUT ACCEPT [0:0]", "neither a chain nor a rule"),
        ("-A ufw-nowhere -j DROP", "no file declares the chain"),
    ],
)
def test_what_boot_could_not_load_is_refused(program: ModuleType, line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        program.compose("ufw", POLICIES, {"user.rules": USER.replace("COMMIT", f"{line}\nCOMMIT")})


@pytest.mark.parametrize("defaults", ["", DEFAULTS.replace("DROP", "REJECT"), DEFAULTS.replace("FORWARD", "BACKWARD")])
def test_policies_that_it_does_not_know_are_refused(program: ModuleType, defaults: str) -> None:
    assert program.read_policies(DEFAULTS) == POLICIES
    with pytest.raises(ValueError, match="default/ufw"):
        program.read_policies(defaults)


def test_only_what_differs_is_written(program: ModuleType, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/ufw").write_text(DEFAULTS)
    (tmp_path / "etc/ufw").mkdir()
    for suffix, prefix in (("", "ufw"), ("6", "ufw6")):
        for name, text in (("before", BEFORE), ("after", "*filter\nCOMMIT\n"), ("user", USER)):
            (tmp_path / f"etc/ufw/{name}{suffix}.rules").write_text(text.replace("ufw-", f"{prefix}-"))
    (tmp_path / "raw.rules").write_text("*raw\nCOMMIT\n")
    monkeypatch.setattr(program, "ETC", tmp_path / "etc")
    monkeypatch.setattr(program, "TARGET", tmp_path)
    monkeypatch.setattr("sys.argv", ["compose", "--check"])
    with pytest.raises(SystemExit, match="not what ufw's files say"):
        program.main()
    assert not (tmp_path / "boot.v4.rules").exists()
    monkeypatch.setattr("sys.argv", ["compose"])
    program.main()
    assert capsys.readouterr().out.count("\n") == 2
    program.main()
    monkeypatch.setattr("sys.argv", ["compose", "--check"])
    program.main()
    assert capsys.readouterr().out == ""
    assert "ufw6-user-input" in (tmp_path / "boot.v6.rules").read_text()
