"""Build the stand-in Debian packages and a signed apt repository of them.

`python3 tests/standins/build.py --out DIR` leaves DIR/pool/*.deb, DIR/dists/stable/... (signed with a key made in
DIR/gnupg) and the public key as DIR/key.asc. Same sources, same packages, byte for byte; only the signature and its key
differ.

Debian packages it needs: dpkg (dpkg-deb), dpkg-dev (dpkg-scanpackages), gpg, gpg-agent, gpgconf.
"""

import argparse
import datetime as dt
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("datadog-agent", "otelcol")
EMPTY_DIRECTORIES = {"datadog-agent": ("opt/datadog-agent/run", "var/log/datadog")}
DEFAULT_EPOCH = 1763856000
SUITE = "stable"
COMPONENT = "main"


def run(command: list[str], **options) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def read_field(control: str, name: str) -> str:
    """Return one field of a Debian control file."""
    return next(line.split(": ", 1)[1] for line in control.splitlines() if line.startswith(f"{name}: "))


def build_package(source: Path, pool: Path, epoch: int) -> Path:
    """Build one .deb from a folder that holds `debian/` (control files) and the files as they are installed."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        shutil.copytree(source, root, ignore=shutil.ignore_patterns("debian", "README.md", "__pycache__"))
        shutil.copytree(source / "debian", root / "DEBIAN")
        for directory in EMPTY_DIRECTORIES.get(source.name, ()):
            (root / directory).mkdir(parents=True)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (epoch, epoch))
        control = (root / "DEBIAN/control").read_text()
        version = read_field(control, "Version").split(":")[-1]
        target = pool / f"{read_field(control, 'Package')}_{version}_amd64.deb"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(target)], env=environment)
    return target


def write_indexes(repository: Path, epoch: int) -> Path:
    """Write Packages and Release of the suite, and return Release."""
    suite = repository / "dists" / SUITE
    binary = suite / COMPONENT / "binary-amd64"
    binary.mkdir(parents=True, exist_ok=True)
    packages = run(["dpkg-scanpackages", "--multiversion", "pool"], cwd=repository, stderr=subprocess.DEVNULL)
    (binary / "Packages").write_text(packages)
    (binary / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
    date = dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
    head = f"Origin: qtrade stand-ins\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {date}\n"
    lines = [head + f"Architectures: amd64\nComponents: {COMPONENT}\nSHA256:"]
    for path in sorted(binary.iterdir()):
        content = path.read_bytes()
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path.relative_to(suite)}")
    release = suite / "Release"
    release.write_text("\n".join(lines) + "\n")
    return release


def sign(release: Path, home: Path, key_file: Path) -> None:
    """Sign Release with the repository's key, which is made when there is none."""
    # gpg-agent's socket path has to be short, so the home is a link in /tmp for as long as this takes.
    with tempfile.TemporaryDirectory(prefix="gpg", dir="/tmp") as short:
        link = Path(short) / "h"
        home.mkdir(mode=0o700, exist_ok=True)
        link.symlink_to(home.resolve())
        gpg = ["gpg", "--homedir", str(link), "--batch", "--yes", "--quiet"]
        if not key_file.exists():
            run([*gpg, "--passphrase", "", "--quick-generate-key", "qtrade stand-ins", "ed25519", "sign", "never"])
            key_file.write_text(run([*gpg, "--armor", "--export"]))
        run([*gpg, "--clearsign", "--output", str(release.with_name("InRelease")), str(release)])
        run([*gpg, "--armor", "--detach-sign", "--output", str(release.with_name("Release.gpg")), str(release)])
        subprocess.run(["gpgconf", "--homedir", str(link), "--kill", "all"], check=False)


def main() -> None:
    """Build everything into the directory given."""
    parser = argparse.ArgumentParser(description="Build the stand-in packages and their apt repository.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the repository; made when it is missing")
    repository = parser.parse_args().out.resolve()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", DEFAULT_EPOCH))
    pool = repository / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        sys.stdout.write(f"{build_package(HERE / name, pool, epoch)}\n")
    sign(write_indexes(repository, epoch), repository / "gnupg", repository / "key.asc")


if __name__ == "__main__":
    main()
