"""A process that publishes versions as soon as it is told to; two of them race.

Arguments: the image's command line, a folder for files, and how many versions. It prints `ready`, waits for a line on stdin before
each version, and prints {"id": …} or {"error": …}.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from qtrade.errors import ConflictError
from qtrade.settings import load_settings
from qtrade.store import PublishedImage, open_store
from tests.fakes.examples import make_image
from tests.fakes.projects import add_blobs

Outcome = tuple[list[str], list[str], str]


def publish_in_two_processes(environment: dict[str, str], folder: Path, *, versions: int) -> dict[str, Outcome]:
    """Return for each version who won (ids), what the others were told, and the id that stands in the store."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.racer", name, str(folder / name), str(versions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, **environment, "QTRADE_STATE_DIR": str(folder / f"state-{name}")},
        )
        for name in ("a", "b")
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n", "ready\n"]
        outcome = {}
        for number in range(versions):
            for racer in racers:
                racer.stdin.write("go\n")
                racer.stdin.flush()
            answers = [json.loads(racer.stdout.readline()) for racer in racers]
            ids = [answer["id"] for answer in answers if "id" in answer]
            errors = [answer["error"] for answer in answers if "error" in answer]
            outcome[f"0.{number}.0"] = (ids, errors, answers[0]["stored"])
            assert answers[0]["stored"] == answers[1]["stored"]
    finally:
        for racer in racers:
            racer.communicate()
    assert [racer.returncode for racer in racers] == [0, 0]
    return outcome


def main() -> None:
    """Race."""
    cmdline, folder, versions = sys.argv[1:]
    store = open_store(load_settings())
    images = [make_image(version=f"0.{number}.0", cmdline=cmdline) for number in range(int(versions))]
    add_blobs(store, images[0], Path(folder))
    print("ready", flush=True)
    for image in images:
        sys.stdin.readline()
        try:
            store.publish(image, PublishedImage(image.to_json(), image.list_text(), b"", {}))
        except ConflictError as error:
            answer = {"error": error.render()}
        else:
            answer = {"id": image.id}
        stored = store.read("demo", image.version).document()["id"]
        print(json.dumps({**answer, "stored": stored}), flush=True)


if __name__ == "__main__":
    main()
