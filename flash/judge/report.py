"""Judgements as people and programs read them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flash.judge.decide import judge
from flash.judge.record import Finding, Judgement, Sample
from flash.judge.recording import Run, read_run, read_samples
from qtrade.look import render_table
from qtrade.manifest.gates import Gates

_HEAD = ("verdict", "gate", "host", "why", "sample")


@dataclass(frozen=True)
class JudgementDocument:
    """What `qtrade judge --json` prints: `until` in Unix seconds, the worst findings first."""

    verdict: str
    version: str
    environment: str
    until: float
    canaries: tuple[str, ...]
    controls: tuple[str, ...]
    findings: tuple[Finding, ...]


def replay(path: Path, environment: str, gates: Gates, *, until: float | None = None) -> JudgementDocument:
    """Judge a record by an environment's gates, at the moment `until` or at its last sample. Raises `BadInput`, `NotFound`."""
    run = read_run(path)
    if until is None:
        until = max((sample.at for sample in read_samples(path)), default=0.0)
    return document(environment, run, judge_run(gates, run, read_samples(path), until), until)


def judge_run(gates: Gates, run: Run, samples: Iterable[Sample], until: float) -> Judgement:
    """Judge a run by those of the gates that count for its image; roles that nobody noted leave all of them."""
    counted = gates.for_roles(run.roles) if run.roles else gates
    return judge(counted, samples, tuple(run.deployed_at), run.controls, run.deployed_at, until)


def document(environment: str, run: Run, judgement: Judgement, until: float) -> JudgementDocument:
    """Return a judgement with what was judged."""
    canaries = tuple(sorted(run.deployed_at))
    return JudgementDocument(
        judgement.verdict, run.version, environment, until, canaries, run.controls, judgement.findings
    )


def render_judgement(found: JudgementDocument, *, width: int | None = None) -> str:
    """Return the table of findings, below a line that says what all of them come to."""
    hosts = f"{', '.join(found.canaries) or 'no host'} against {', '.join(found.controls) or 'no control'}"
    title = f"{found.verdict}: {found.version} on {hosts}, until {_moment(found.until)}"
    rows = [
        (one.verdict, f"{one.kind} {one.gate}", one.host, one.why, render_sample(one.sample)) for one in found.findings
    ]
    return f"{title}\n{render_table(_HEAD, rows, width=width)}"


def render_sample(sample: Sample | None) -> str:
    """Return a sample in a few words, empty for none."""
    if sample is None:
        return ""
    return f"{'nothing' if sample.value is None else f'{sample.value:g}'} at {_moment(sample.at)}"


def _moment(at: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(at))
