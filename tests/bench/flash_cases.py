"""The controller's side of `tests.bench.flash`: `python -m tests.bench.flash_cases STORE` serves, as a flash does."""

import base64
import sys
from pathlib import Path

from flash.agent.imagelist import Blob
from flash.chunks import list_chunks
from flash.netboot.delivery import Delivery, blobs_in
from flash.netboot.server import FlashServer


def serve(store: Path) -> None:
    """Serve the store as a flash does, until stdin ends; the first line on stdout is the address."""
    with FlashServer("127.0.0.1", 0) as server, server.serving(Delivery(blobs_in(store), lambda _: None)) as served:
        sys.stdout.write(f"{served.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


def make_plan(store: Path, blobs: list[Blob]) -> dict[str, object]:
    """Return what a job says of the blobs, for `fetch`."""
    lists = {blob.sha256: base64.b64encode(list_chunks(store / blob.sha256)).decode() for blob in blobs}
    return {
        "blobs": [blob._asdict() for blob in blobs],
        "chunks": {"size_bytes": 4 << 20, "sha256": lists},
    }


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
