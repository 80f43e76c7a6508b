"""Have the Collector check a config of its own: `check_collector.py FILE`. The bake does, and whoever wants to know on a host.

`otelcol-contrib validate` reads the files that a config refers to, and refuses an empty key. Where the credentials are not there,
which is everywhere but in the unit itself, each one that the config names is stood in for by a key that opens nothing.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = "/usr/bin/otelcol-contrib"
CREDENTIAL = re.compile(r"\$\{file:\$\{env:CREDENTIALS_DIRECTORY\}/([a-z0-9_]+)\}")


def check(config: Path, program: str = PROGRAM) -> int:
    """Return the exit code of `validate`; what the Collector says goes to our own output."""
    with tempfile.TemporaryDirectory(prefix="check-collector-") as folder:
        for name in CREDENTIAL.findall(config.read_text()):
            Path(folder, name).write_text("0" * 32)
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": folder}
        return subprocess.run([program, "validate", f"--config={config}"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1])))
