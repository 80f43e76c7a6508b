"""The loop that carries a rollout out: it decides by a pure function, journals, starts hosts, and hears the judge.

Memory does not grow with time: a task for each host under way, one small record a host, samples on disk.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from flash.judge.record import Finding, Judgement, Sample, Verdict
from flash.judge.recording import Run
from flash.rollout.decide import Begin, Decision, Judge, Stop, Wait, Write, next_step
from flash.rollout.journal import RolloutJournal
from flash.rollout.panel import Panel, choose_panel
from flash.rollout.ports import Outcome, Ports
from flash.rollout.progress import UNDER_WAY, Event, HostState, Phase, Progress
from flash.rollout.samples import SampleLog
from flash.rollout.waves import RolloutPlan
from qtrade.errors import QtradeError
from qtrade.reporter import Reporter

# How often orders are looked for and what is seen is published, at most.
POLL_S = 2.0
_WATCHED = (Phase.ROLLING, Phase.SOAKING)
_SHOWN = 5
Fields = dict[str, Any]


class Desk:
    """What the engine has beside its ports. `check` raises when the environment is not ours any more."""

    def __init__(
        self,
        *,
        check: Callable[[], None],
        publish: Callable[[Progress], None],
        order: Callable[[], tuple[str, str] | None],
        block: Callable[[Progress], None],
    ) -> None:
        self.check, self.publish, self.order, self.block = check, publish, order, block


class Engine:
    """One rollout, carried out up to its end or a pause."""

    def __init__(
        self,
        plan: RolloutPlan,
        progress: Progress,
        journal: RolloutJournal,
        ports: Ports,
        desk: Desk,
        reporter: Reporter,
    ) -> None:
        self._plan, self._progress, self._journal = plan, progress, journal
        self._ports, self._desk, self._reporter = ports, desk, reporter
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._published = self._asked = 0.0
        # The wave that was looked at last, and since when the next look asks for samples.
        self._seen = (-1, 0.0)
        self._told: tuple[str, Run] | None = None
        self._fault: Exception | None = None
        # What hosts and the judge said since the journal was last written: one flush to disk serves for all of it.
        self._news: list[tuple[Event, Fields]] = []

    async def run(self) -> Progress:
        """Go on until there is nothing more to do. Raises what makes going on impossible, such as a lost lease."""
        self._take_up()
        watch = asyncio.create_task(self._watch())
        try:
            while True:
                self._wake.clear()
                await asyncio.to_thread(self._desk.check)
                await self._heed_order()
                self._take_in()
                decision = next_step(self._plan, self._progress, self._ports.clock.now())
                if isinstance(decision, Stop):
                    await self._publish(at_once=True)
                    return self._progress
                await self._do(decision)
        finally:
            for task in (watch, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(watch, *self._tasks.values(), return_exceptions=True)

    def _take_in(self) -> None:
        """Journal what came in. A version fails once, and only while it rolls out. Raises what went wrong in a task."""
        if self._fault is not None:
            raise self._fault
        news, self._news = self._news, []
        for event, fields in news:
            if event is Event.FAILED and self._progress.phase not in _WATCHED:
                continue
            if event is Event.FAILED:
                self._write(event, fields)
        self._write_all([one for one in news if one[0] is not Event.FAILED])

    def _take_up(self) -> None:
        """Start anew the work on hosts that were under way when the controller died, and the watch of a wave that nobody watched."""
        for name in self._progress.names(*UNDER_WAY):
            self._spawn(name, returns=self._progress.hosts[name].state is HostState.RETURNING)
        if self._progress.phase is Phase.SOAKING:
            self._write(Event.SOAKING, {})

    async def _do(self, decision: Decision) -> None:
        match decision:
            case Begin(hosts, returns):
                event = Event.RETURNING if returns else Event.STARTED
                self._write_all([(event, {"host": name}) for name in hosts])
                for name in hosts:
                    self._spawn(name, returns=returns)
            case Write(Event.BLOCKED):
                await asyncio.to_thread(self._desk.block, self._progress)
                self._write(Event.BLOCKED, {})
            case Write(event, fields):
                self._write(event, fields)
            case Judge():
                await self._close()
            case Wait(_, until):
                await self._publish()
                left_s = POLL_S if until is None else min(until - self._ports.clock.now(), POLL_S)
                await self._ports.clock.wait(self._wake, max(left_s, 0.0))
            case Stop():
                pass

    def _spawn(self, name: str, *, returns: bool) -> None:
        task = asyncio.create_task(self._work(name, returns=returns), name=name)
        self._tasks[name] = task

    async def _work(self, name: str, *, returns: bool) -> None:
        try:
            outcome = await self._ask_hands(name, returns=returns)
            self._news.append((outcome.event, {"host": name, "why": outcome.why}))
        except Exception as error:  # noqa: BLE001 - the loop raises it: nothing of a defect is lost in a task
            self._fault = error
        finally:
            self._tasks.pop(name, None)
            self._wake.set()

    async def _ask_hands(self, name: str, *, returns: bool) -> Outcome:
        hands, limit_s = self._ports.hands, self._plan.policy.host_deadline_s
        since, through = self._progress.hosts[name].at, asyncio.Event()
        work = hands.take_back(name, self._progress.undo_to) if returns else hands.deploy(name, since)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: through.set())
        try:
            await self._ports.clock.wait(through, limit_s)
            if task.done():
                return task.result()
            await hands.give_up(name)
            return Outcome(Event.STUCK, f"it took longer than {limit_s} s")
        except QtradeError as error:
            return Outcome(Event.STUCK if returns else Event.SKIPPED, error.brief)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        """Observe and judge now and then, so that a bad version stops in the middle of a wave, too."""
        never = asyncio.Event()
        try:
            while True:
                await self._ports.clock.wait(never, self._plan.policy.judge_every_s)
                if self._progress.phase in _WATCHED:
                    judgement = await self._look()
                    if judgement is not None and judgement.verdict is Verdict.FAIL:
                        self._fail(judgement)
        except Exception as error:  # noqa: BLE001 - as in `_work`
            self._fault = error
            self._wake.set()

    async def _close(self) -> None:
        """Hear the judge on a wave that was watched for its time. Only a pass goes on."""
        judgement = await self._look()
        if self._progress.phase is not Phase.SOAKING:
            return
        if judgement is not None and judgement.verdict is Verdict.FAIL:
            self._fail(judgement)
        elif judgement is None or judgement.verdict is Verdict.INCONCLUSIVE:
            findings = judgement.findings if judgement else ()
            why = (
                _say([one for one in findings if one.verdict is Verdict.INCONCLUSIVE]) or "there is nothing to judge by"
            )
            self._write(Event.PAUSED, {"why": f"the judge cannot tell: {why}"})
        else:
            self._write(Event.PASSED, {})

    async def _look(self) -> Judgement | None:
        """Observe the panel, record it, and return what the judge says; None while no host of the wave runs the new version."""
        async with self._looking:
            wave, panel = self._progress.wave, choose_panel(self._plan, self._progress)
            if not panel.canaries or wave >= len(self._plan.waves):
                return None
            log = SampleLog(self._journal.samples, wave)
            if wave != self._seen[0]:
                self._seen = (wave, await asyncio.to_thread(log.last_at))
            since, began = max(panel.since, self._seen[1]), self._ports.clock.now()
            try:
                samples = await self._ports.observe((*panel.canaries, *panel.controls), since)
                self._seen = (wave, began)
            except QtradeError as error:
                # Missing data: the judge says what it means.
                self._reporter.say(f"warning: hosts could not be observed: {error.brief}")
                samples = ()
            # The judge reads a long record: not in the loop.
            return await asyncio.to_thread(self._judge, log, samples, panel)

    def _judge(self, log: SampleLog, samples: Sequence[Sample], panel: Panel) -> Judgement:
        run = Run(self._plan.version, panel.deployed_at, panel.controls, self._plan.layer_roles)
        if (log.path.name, run) != self._told:
            log.begin(run)
            self._told = (log.path.name, run)
        log.add(samples)
        return self._ports.judge(log, panel.canaries, panel.controls, panel.deployed_at, self._ports.clock.now())

    def _fail(self, judgement: Judgement) -> None:
        failed = [one for one in judgement.findings if one.verdict is Verdict.FAIL]
        fields = {"why": _say(failed), "findings": [asdict(one) for one in failed[:_SHOWN]]}
        self._news.append((Event.FAILED, fields))
        self._wake.set()

    async def _heed_order(self) -> None:
        now = self._ports.clock.now()
        if now - self._asked < POLL_S:
            return
        self._asked = now
        found = await asyncio.to_thread(self._desk.order)
        if found is None:
            return
        kind, by = found
        if kind == "pause" and self._progress.phase in (*_WATCHED, Phase.RETURNING):
            self._write(Event.PAUSED, {"why": f"{by} paused it"})
        elif kind == "abort" and self._progress.phase in (*_WATCHED, Phase.PAUSED):
            self._write(Event.ABORTING, {"why": f"{by} aborted it"})

    def _write(self, event: Event, fields: Fields) -> None:
        self._write_all([(event, fields)])

    def _write_all(self, news: Sequence[tuple[Event, Fields]]) -> None:
        if not news:
            return
        self._journal.write(self._progress, news, self._ports.clock.now())
        for event, fields in news:
            said = " ".join(str(fields[key]) for key in ("host", "phase", "why") if fields.get(key))
            self._reporter.say(f"{event} {said}".rstrip())

    async def _publish(self, *, at_once: bool = False) -> None:
        now = self._ports.clock.now()
        # The record names every host: the larger the fleet, the rarer it is written.
        pause_s = POLL_S * max(1.0, len(self._progress.hosts) / 1000)
        if at_once or now - self._published >= pause_s:
            await asyncio.to_thread(self._desk.publish, self._progress)
            self._published = now


def _say(findings: Sequence[Finding]) -> str:
    """Return the first findings for people: which gate, which host, which sample."""
    said = []
    for one in findings[:_SHOWN]:
        sample = f" ({one.sample.metric} {one.sample.value} {one.sample.detail}".rstrip() + ")" if one.sample else ""
        said.append(f"gate {one.gate} on {one.host}: {one.why}{sample}")
    more = len(findings) - _SHOWN
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")
