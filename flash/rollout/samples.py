"""What was observed, on disk: a record for each wave, read one line at a time, so that memory does not grow with time or hosts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flash.judge.record import Sample
from flash.judge.recording import Recorder, Run, read_samples
from qtrade.redaction import redact


class SampleLog:
    """The samples of one wave. Can be read again and again; `qtrade judge` judges the file anew."""

    def __init__(self, folder: Path, wave: int) -> None:
        self.path = folder / f"{wave:03}.jsonl"

    def begin(self, run: Run) -> None:
        """Note who is canary and control from now on."""
        with Recorder(self.path) as record:
            record.begin(run)

    def add(self, samples: Sequence[Sample]) -> None:
        """Append samples. What a crash of the machine loses was not watched: the judge sees the gap."""
        with Recorder(self.path) as record:
            record.add(replace(one, detail=redact(one.detail)) for one in samples)

    def last_at(self) -> float:
        """Return when the last sample was taken, 0 where there is none: what is recorded is not asked for again."""
        return max((one.at for one in self), default=0.0)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in the order of their recording."""
        if self.path.exists():
            yield from read_samples(self.path)
