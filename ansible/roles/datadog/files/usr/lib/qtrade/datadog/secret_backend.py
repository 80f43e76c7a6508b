#!/usr/bin/python3 -IB
"""The Agent's secret backend: answer each handle with the systemd credential of that name."""

import json
import os
import sys
from pathlib import Path


def read_secret(directory: str, handle: str) -> dict[str, str | None]:
    """Return the Agent's answer for one handle."""
    try:
        return {"value": Path(directory, Path(handle).name).read_text().strip(), "error": None}
    except OSError as error:
        return {"value": None, "error": str(error)}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/datadog-agent.service")
    json.dump({handle: read_secret(credentials, handle) for handle in request["secrets"]}, sys.stdout)
