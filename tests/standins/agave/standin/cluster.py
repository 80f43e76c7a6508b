"""A cluster that stand-ins of one machine share: a folder with its clock, its vote account, and a log of every vote that was signed.

`cluster.json`: `first_slot` at `monotonic_s` of the machine's clock, `slots_per_s`, the vote account's `address` and its `node`, and
`alpenglow` once it has votes of that kind. `votes.jsonl`: one line a vote, in the order of signing.
"""

import json
import os
import time
from pathlib import Path

VARIABLE = "AGAVE_STANDIN_CLUSTER"
# How far what is final is behind, and what counts as delinquent.
FINAL = 32
DELINQUENT = 128


class Cluster:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.facts = json.loads((self.folder / "cluster.json").read_text())

    @classmethod
    def of_environment(cls):
        return cls(os.environ[VARIABLE]) if VARIABLE in os.environ else None

    def slot(self):
        return self.facts["first_slot"] + int(
            (time.monotonic() - self.facts["monotonic_s"]) * self.facts["slots_per_s"]
        )

    def log(self, identity, process, slot, after):
        """Log a vote; one write, so that lines of several processes do not mix."""
        line = json.dumps({"identity": identity, "process": process, "slot": slot, "after": after}) + "\n"
        descriptor = os.open(self.folder / "votes.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def last_vote(self):
        path = self.folder / "votes.jsonl"
        if not path.exists():
            return 0
        return max((json.loads(line)["slot"] for line in path.read_text().splitlines()), default=0)

    def vote_accounts(self, wanted):
        """Answer getVoteAccounts for one vote account."""
        if wanted != self.facts["address"]:
            return {"current": [], "delinquent": []}
        last = self.last_vote()
        account = {"votePubkey": wanted, "nodePubkey": self.facts["node"], "lastVote": last, "activatedStake": 1}
        is_current = self.slot() - last <= DELINQUENT
        return {"current": [account] if is_current else [], "delinquent": [] if is_current else [account]}
