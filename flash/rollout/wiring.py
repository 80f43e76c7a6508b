"""The one place where a rollout gets its real hands, eyes and judge. Simulations and tests put their own here."""

from flash.inventory import environment_named
from flash.judge.collect import Collector
from flash.rollout.eyes import Eyes, judge_for
from flash.rollout.hands import CommandHands
from flash.rollout.journal import RolloutJournal
from flash.rollout.ports import Ports, WallClock
from flash.rollout.waves import RolloutPlan
from flash.trust import load_installed
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring


def ports_for(settings: Settings, plan: RolloutPlan, journal: RolloutJournal) -> Ports:
    """Return what a rollout works with. Raises `NotFound`, `TrustError`, `BadInput`."""
    trust = ensure_keyring(settings).trust
    image = load_installed(open_store(settings), plan.recipe, plan.version, trust).image
    gates = environment_named(settings, plan.environment).gates
    hands = CommandHands(settings, plan, journal.logs)
    return Ports(hands, Eyes(settings, image, Collector(settings)), judge_for(plan, gates, image), WallClock())
