"""The host's side of `tests.bench.flash`: `python -m tests.bench.flash_fetch agent|plain URL TARGET PLAN`. Imports what the agent does."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from flash.agent.chunks import parse_chunks
from flash.agent.fetch import Fetcher
from flash.agent.imagelist import Blob

_COPY = 1 << 20


def fetch(url: str, target: Path, plan: dict[str, Any]) -> None:
    """Do what the agent does with the blobs of an image: fetch, check each chunk, write, read every byte back."""
    blobs = [Blob(**fields) for fields in plan["blobs"]]
    fetcher = Fetcher(url, target, chunks=parse_chunks(plan["chunks"]))
    fetcher.fetch_all(blobs)
    assert not fetcher.missing(blobs)


def plain(url: str, target: Path, plan: dict[str, Any]) -> None:
    """Write what comes, check nothing, as a first script would; at least it flushes."""
    for fields in plan["blobs"]:
        with (
            urllib.request.urlopen(f"{url}/blobs/{fields['sha256']}") as answer,
            (target / fields["sha256"]).open("wb") as sink,
        ):
            while data := answer.read(_COPY):
                sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())


if __name__ == "__main__":
    case = {"agent": fetch, "plain": plain}[sys.argv[1]]
    case(sys.argv[2], Path(sys.argv[3]), json.loads(Path(sys.argv[4]).read_text()))
