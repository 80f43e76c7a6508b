"""Look at hosts while a version soaks: one SSH round trip for each host and interval, many hosts side by side, samples as they come.

A host that gives no answer gives samples too: a None of each metric, with the reason. The judge counts what it lacks.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flash.inventory import load_environment
from flash.journal import latest
from flash.judge import probe
from flash.judge.answers import Wanted, parse_answer, samples_of, silent
from flash.judge.record import Sample
from flash.ssh import target_for
from qtrade.errors import HostError, QtradeError
from qtrade.manifest import Host, Image
from qtrade.redaction import redact
from qtrade.settings import Settings

AT_ONCE = 32
_LOOK_S = 60.0
_COMMAND = "python3 -IB -"
# Samples that nobody has taken yet: beyond this, hosts wait to be looked at, and memory does not grow.
_QUEUED_LOOKS = 256

# Returns what the probe printed. Raises `QtradeError`.
Ask = Callable[[Host], str]
Clock = Callable[[], float]
_Queue = asyncio.Queue[list[Sample] | None]


@dataclass(frozen=True)
class Watched:
    """A host that is looked at, and the image that it is to run: the new version's of a canary, its own of a control."""

    host: Host
    image: Image


@dataclass(frozen=True)
class _Pace:
    """When the first look at a host begins, how far apart looks are, and how many there are (None: until somebody ends it)."""

    offset_s: float
    interval_s: float
    rounds: int | None


class Collector:
    """Looks at hosts again and again. `clock` tells the moments of samples, in Unix seconds: this machine's, never a host's."""

    def __init__(
        self, settings: Settings, *, ask: Ask | None = None, at_once: int = AT_ONCE, clock: Clock = time.time
    ) -> None:
        self._settings = settings
        self._ask = ask or (lambda host: ask_over_ssh(settings, host))
        self._at_once = max(1, at_once)
        self._clock = clock

    def now(self) -> float:
        """Return the moment that a sample would have now."""
        return self._clock()

    async def observe(
        self, hosts: Sequence[Watched], *, interval_s: float, rounds: int | None = None
    ) -> AsyncIterator[Sample]:
        """Yield samples of all hosts as they come, until the caller ends it (`aclose`), or after so many looks at each host.

        Looks at a host begin `interval_s` apart, spread over the interval between hosts; where one takes longer, the next follows at
        once, and none is made up for. A host that keeps silent delays no other but by its place among `at_once`.
        """
        queue: _Queue = asyncio.Queue(_QUEUED_LOOKS)
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="look")
        paces = [_Pace(interval_s * place / len(hosts), interval_s, rounds) for place in range(len(hosts))]
        tasks = [
            asyncio.create_task(self._watch(one, queue, pool, pace)) for one, pace in zip(hosts, paces, strict=True)
        ]
        ended = 0
        try:
            while ended < len(tasks):
                found = await queue.get()
                ended += found is None
                for sample in found or ():
                    yield sample
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # A look under way ends by its own deadline; nobody waits for it.
            pool.shutdown(wait=False, cancel_futures=True)

    async def _watch(self, one: Watched, queue: _Queue, pool: ThreadPoolExecutor, pace: _Pace) -> None:
        loop = asyncio.get_running_loop()
        due, done = loop.time() + pace.offset_s, 0
        try:
            while pace.rounds is None or done < pace.rounds:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due = max(due + pace.interval_s, loop.time())
                await queue.put(await loop.run_in_executor(pool, self.look, one))
                done += 1
        except asyncio.CancelledError:
            raise
        except BaseException:
            # Whoever waits for samples has to hear of it.
            await queue.put(None)
            raise
        await queue.put(None)

    def look(self, one: Watched) -> list[Sample]:
        """Look at a host once, and return a sample of each metric. What keeps it from answering is the reason in all of them."""
        try:
            wanted = wanted_of(self._settings, one)
            asked_at = self._clock()
            answer = parse_answer(self._ask(one.host), one.host.name)
            return samples_of(wanted, answer, asked_at, self._clock())
        except QtradeError as error:
            said = f"{error.brief} {error.details}".split("\n")[0].strip()
            return silent(one.host.name, self._clock(), redact(said)[:200])


def wanted_of(settings: Settings, one: Watched) -> Wanted:
    """Return what the host is to be, by its image, its manifest, its environment, and the journal of its last flash. Raises `BadInput`."""
    profile = load_environment(settings, one.host).hardware.get(one.host.role)
    unproven, why = count_unproven(settings, one.host)
    return Wanted(
        host=one.host.name,
        image=one.image.id,
        layers=tuple(layer.digest for layer in one.image.layers),
        mounts=tuple(sorted(disk.mount for disk in one.host.data_disks if disk.mount)),
        link_mbit=profile.link_mbit if profile else 0,
        unproven_disks=unproven,
        unproven_why=why,
    )


def count_unproven(settings: Settings, host: Host) -> tuple[int | None, str]:
    """Return how many disks that the last flash had to leave alone it has not proven untouched; None where no flash of it is on record.

    The proof is the agent's, signed and in the journal: each disk's content before the write and just before the first boot after it.
    """
    journal = latest(settings.state_dir / "flashes" / host.name)
    rows = journal.evidence("protected") if journal else None
    if journal is None or not isinstance(rows, list):
        return None, "no flash on record here has the agent's proof"
    touched = [str(row["serial"]) for row in rows if row["before"] != row["after"]]
    missing = int(journal.evidence("unproven_disks") or 0)
    return len(touched) + missing, f"changed: {', '.join(touched)}" if touched else ""


def ask_over_ssh(settings: Settings, host: Host) -> str:
    """Run the probe on the host, as its operator, and return what it printed. Raises `HostError`, `ToolError`, `BadInput`."""
    program = Path(probe.__file__).read_bytes()
    target = target_for(settings, host, user=host.ssh.operator)
    done = target.run(_COMMAND, stdin=program, timeout_s=_LOOK_S, check=False)
    if done.returncode:
        raise HostError(
            f"{host.name} cannot tell how it is (code {done.returncode})",
            details=redact((done.stderr or done.stdout).strip()[-300:]),
            resolution="log in as its operator and look whether python3 runs there",
        )
    return done.stdout
