"""Build the site: `python -m docs.site`. With `--links`, ask each address that leads out of it instead; that needs the network."""

import sys
from pathlib import Path

from docs.site.assemble import assemble
from qtrade.errors import QtradeError
from qtrade.process import run
from qtrade.settings import load_settings


def build(*, check_links: bool) -> Path:
    """Build into the state directory and return the folder. A warning of Sphinx is an error: `ToolError`."""
    settings = load_settings()
    base = settings.state_dir / "docs"
    source, out = base / "source", base / ("links" if check_links else "html")
    assemble(settings, source)
    builder = "linkcheck" if check_links else "html"
    config = settings.project / "docs/site"
    options = ["-W", "--keep-going", "-q", "-E", "-b", builder, "-c", str(config), "-d", str(base / "trees")]
    run([sys.executable, "-m", "sphinx", *options, str(source), str(out)], timeout_s=900)
    return out


def main() -> None:
    """Build and print where."""
    try:
        out = build(check_links="--links" in sys.argv[1:])
    except QtradeError as error:
        sys.exit(error.render())
    sys.stdout.write(f"{out / 'output.txt' if '--links' in sys.argv[1:] else out / 'index.html'}\n")


if __name__ == "__main__":
    main()
