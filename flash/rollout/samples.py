"""What was observed, on disk: a file for each wave, read one line at a time, so that memory does not grow with time or hosts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flash.judge.record import Sample
from flash.rollout.lines import append_lines, read_lines


class SampleLog:
    """The samples of one wave. Can be read again and again; the file is what can be judged anew later."""

    def __init__(self, folder: Path, wave: int) -> None:
        self.path = folder / f"{wave:03}.jsonl"

    def add(self, samples: Sequence[Sample]) -> None:
        """Append samples. What a crash of the machine loses was not watched: the judge sees the gap."""
        append_lines(self.path, ([one.host, one.metric, one.at, one.value, one.detail] for one in samples), sync=False)

    def last_at(self) -> float:
        """Return when the last sample was taken, 0 where there is none: what is recorded is not asked for again."""
        return max((one.at for one in self), default=0.0)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in the order of their recording."""
        for host, metric, at, value, detail in read_lines(self.path):
            yield Sample(host, metric, at, value, detail)
