"""Have the Collector check a config of its own: `check_collector.py FILE`. The bake does, and whoever wants to know on a host.

`otelcol-contrib validate` reads the files that a config refers to, and refuses an empty key. Where the credentials are not there,
which is everywhere but in the unit itself, each one that the config names is stood in for by a key that opens nothing. It refuses a
directory that is not there, too: the state directory, which systemd makes when it starts the unit.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = "/usr/bin/otelcol-contrib"
CREDENTIAL = re.compile(r"\$\{file:\$\{env:CREDENTIALS_DIRECTORY\}/([a-z0-9_]+)\}")
DIRECTORY = re.compile(r"^( *directory: +)(/\S+)$", re.MULTILINE)


def check(config: Path, program: str = PROGRAM) -> int:
    """Return the exit code of `validate`; what the Collector says goes to our own output."""
    with tempfile.TemporaryDirectory(prefix="check-collector-") as folder:
        text = config.read_text()
        for name in CREDENTIAL.findall(text):
            Path(folder, name).write_text("0" * 32)
        copy = Path(folder, "config.yaml")
        copy.write_text(DIRECTORY.sub(lambda match: match[0] if Path(match[2]).is_dir() else match[1] + folder, text))
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": folder}
        return subprocess.run([program, "validate", f"--config={copy}"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1])))
