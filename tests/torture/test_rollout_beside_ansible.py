"""The same bad releases, by our rollout and by Ansible's `serial` with `max_fail_percentage`: how many hosts meet them."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.rollout.ansible import play
from tests.fakes.rollout.fleet import NEW, make_members, make_plan
from tests.fakes.rollout.rig import sim_rig

pytestmark = pytest.mark.torture

COUNT = 100
SOAK_S = 12
# Both watch each batch for as long, in real seconds: ours says it in its policy, on a clock that runs ten times as fast.
POLICY: dict[str, Any] = {
    "max_parallel": 12,
    "per_account": 12,
    "max_unavailable": {"rpc": 12, "validator": 12},
    "first_soak_s": SOAK_S * 10,
    "canary_soak_s": SOAK_S * 10,
    "judge_every_s": 5,
    "steps": [{"percent": share, "soak_s": SOAK_S * 10} for share in (10, 25, 50, 100)],
}
RULES = {"boot_s": 0.3, "stale_s": 0.1}
DEAD = ["host-0037", "host-0081"]
# One host in 25 is of a class of its own.
RARE = 25
CLASS = "cherry/epyc-9575/rpc"
FAULTS: dict[str, dict[str, Any]] = {
    "does not boot": {"kind": "boot"},
    "sick at once": {"kind": "load"},
    "sick under load after 6 s": {"kind": "load", "after_s": 6.0},
    "sick on one class only, after 6 s": {"kind": "load", "after_s": 6.0, "class_name": CLASS},
    "sick on a rare hardware class, after 6 s": {"kind": "load", "after_s": 6.0, "class_name": "xeon-6780"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_exposed_hosts(name: str, tmp_path: Path) -> None:
    spec = {
        "count": COUNT,
        "rare": RARE,
        "rules": RULES,
        "fault": FAULTS[name],
        "dead": DEAD,
        "policy": POLICY,
        "times": 10,
    }
    hosts = [one.name for one in make_members(COUNT, rare=RARE)]
    found = {}
    for tool, soak_s in (("ansible", 0), ("ansible + pause", SOAK_S), ("qtrade", None)):
        with sim_rig(tmp_path / tool.replace(" ", ""), **spec) as rig:
            if soak_s is None:
                took = rig.run()
                assert took["phase"] == "FAILED"
            else:
                played = play(rig.port, hosts, tmp_path / tool.replace(" ", ""), version=NEW, soak_s=soak_s)
                assert "PLAY RECAP" in played.stdout, played.stderr
            tally = rig.ask("/tally")
        found[tool] = (len(tally["exposed"]), tally["versions"].get(NEW, 0))
        print(f"{name} | {tool} | exposed {found[tool][0]} | on it at the end {found[tool][1]}")
    exposed, left = found["qtrade"]
    assert left == 0
    first, canary = make_plan(make_members(COUNT, rare=RARE), **POLICY).waves[:2]
    assert 0 < exposed <= len(first.hosts) + len(canary.hosts)
