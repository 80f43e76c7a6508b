"""The load that does not wait for answers: what is due when, what is timed, and when it stops."""

import asyncio
import random

import pytest

from flash.bench.on_host.open_loop import Bounds, Tally, quantile, run, summarize
from tests.fakes.virtual_time import run_virtually

pytestmark = pytest.mark.unit


def drive(send, bounds: Bounds):
    told: list[dict] = []
    return run_virtually(run(send, bounds, told.append)), told


async def answer(_number: int) -> str:
    return ""


@pytest.mark.parametrize("seed", range(100))
def test_a_quantile_is_a_value_and_not_exceeded_by_that_share(seed) -> None:
    source = random.Random(seed)
    values = [source.choice((source.random(), 1.0, 0.0)) for _ in range(source.randint(1, 200))]
    share = source.choice((source.uniform(0.001, 1), 0.5, 0.99, 1.0))
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_quantiles_of_known_values() -> None:
    told = summarize([number / 1000 for number in range(1, 1001)])
    assert told == {"p50_ms": 500, "p90_ms": 900, "p99_ms": 990, "p999_ms": 999, "max_ms": 1000}
    assert summarize([]) == {}
    assert summarize([0.002]) == dict.fromkeys(told, 2.0)
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@pytest.mark.parametrize(("rps", "seconds"), [(1, 1), (3, 7), (49, 60), (333, 900), (5000, 3600)])
def test_as_many_requests_as_rate_and_time_give(rps, seconds) -> None:
    bounds = Bounds(rps, seconds)
    assert bounds.total == rps * seconds
    assert bounds.due_s(bounds.total - 1) < seconds
    assert bounds.due_s(rps) == pytest.approx(1)


def test_all_is_sent_and_timed_but_the_warm_up() -> None:
    result, _ = drive(answer, Bounds(200, 0.5, warm_up_s=0.25))
    assert (result["sent"], result["answered"], result["failures"], result["reasons"]) == (100, 100, {}, [])
    assert set(result["latency"]) == {"p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"}


def test_what_is_only_warm_up_is_no_measurement() -> None:
    result, _ = drive(answer, Bounds(100, 0.1, warm_up_s=1))
    assert result["reasons"] == ["nothing was timed: the load ended with its warm-up"]
    assert result["latency"] == {}


def test_a_stall_is_in_the_latencies_of_all_that_were_due_in_it() -> None:
    """A server that stops for 400 ms: a closed loop would see one slow answer, this one sees all that were due meanwhile."""

    async def stalls(_number: int) -> str:
        await asyncio.sleep(max(0.4 - asyncio.get_running_loop().time(), 0))
        return ""

    result, _ = drive(stalls, Bounds(100, 1, in_flight=1000))
    assert (result["answered"], result["reasons"]) == (100, [])
    # 40 of 100 waited, the first one for all of it, and each later one for 10 ms less.
    assert result["latency"]["max_ms"] == pytest.approx(400)
    assert result["latency"]["p90_ms"] == pytest.approx(300, abs=11)
    assert result["latency"]["p50_ms"] == pytest.approx(0, abs=1)


def test_requests_that_find_too_many_under_way_are_failures_and_end_it() -> None:
    async def hangs(_number: int) -> str:
        await asyncio.sleep(60)
        return ""

    result, _ = drive(hangs, Bounds(500, 30, in_flight=5))
    assert result["failures"] == {"too many others under way": 20}
    assert result["reasons"] == ["more than 1.0% failed"]
    assert result["seconds"] == pytest.approx(25 / 500, abs=0.01), "nobody waits for the hanging ones"


def test_errors_beyond_the_share_end_it_early() -> None:
    async def fails(number: int) -> str:
        return "HTTP 503" if number % 2 else ""

    result, _ = drive(fails, Bounds(1000, 30, error_share=0.1))
    assert result["sent"] < 30
    assert result["failures"] == {"HTTP 503": 10}
    assert result["reasons"] == ["more than 10.0% failed"]


def test_few_errors_do_not() -> None:
    async def fails_once(number: int) -> str:
        return "broken" if number == 150 else ""

    result, _ = drive(fails_once, Bounds(400, 0.5, error_share=0.01))
    assert (result["sent"], result["failures"], result["reasons"]) == (200, {"broken": 1}, [])


def test_the_last_failures_count_too() -> None:
    """Answers that come after the last request was sent can still fail the load."""

    async def late_failure(_number: int) -> str:
        await asyncio.sleep(0.3)
        return "broken"

    result, _ = drive(late_failure, Bounds(100, 0.1, error_share=0.5))
    assert result["sent"] == 10
    assert result["reasons"][0] == "100.0% failed, 50.0% may"


def test_a_request_that_breaks_the_sender_is_not_passed_over() -> None:
    async def breaks(number: int) -> str:
        if number == 3:
            raise LookupError("of the sender itself")
        return ""

    result, _ = drive(breaks, Bounds(10, 1))
    assert result["reasons"] == ["1 of 10 requests came to no end"]


def test_an_answer_that_never_comes_is_a_failure() -> None:
    async def hangs(_number: int) -> str:
        await asyncio.sleep(60)
        return ""

    result, _ = drive(hangs, Bounds(50, 0.1, answer_s=0.2))
    assert result["failures"] == {"no answer in time": 5}


def test_who_cannot_keep_the_pace_does_not_pass() -> None:
    async def busy(_number: int) -> str:
        asyncio.get_running_loop().spend(0.02)  # this process itself is too slow
        return ""

    result, _ = drive(busy, Bounds(500, 0.4, in_flight=10_000, answer_s=30))
    assert result["late"] > 0
    assert any("too slow for this rate" in reason for reason in result["reasons"])


def test_it_tells_how_far_it_is() -> None:
    _, told = drive(answer, Bounds(50, 1.5))
    assert told
    assert told[0]["total"] == 75
    assert told[0]["left_s"] < 1.5


def test_a_share_needs_enough_requests() -> None:
    tally = Tally()
    tally.failures["x"] = 19
    assert not tally.is_beyond(0.01)
    tally.failures["x"] = 20
    assert tally.is_beyond(0.01)
    assert tally.error_share == 1.0
