"""The upstreams of the production recipe on this machine: GitHub's API, Datadog's apt repository, a Git server with Agave's tag."""

import gzip
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.running_host import free_port
from tests.fakes.upstream_server import Upstream

_KEY_PATH = "/DATADOG_APT_KEY_CURRENT.public"
_WHO = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tests"), ("EMAIL", "tests@localhost"), ("DATE", "2026-01-01T00:00:00Z"))
}
# Upstream's script takes the folder to install into as its last argument; this one keeps how it was called.
_INSTALL_ALL = """\
#!/bin/sh
set -eu
test "$CARGO_NET_OFFLINE" = true
test -e "$RUSTUP_HOME/toolchains/1.96.1"
test -e "$CARGO_HOME/fetched"
for last; do :; done
mkdir -p "$last/bin"
printf '#!/bin/sh\\necho agave-validator 4.2.1 src:%s\\n' "$CI_COMMIT" >"$last/bin/agave-validator"
chmod 755 "$last/bin/agave-validator"
echo "$@" >"$last/called-with"
"""
# What stands in for the toolchain of the builder root: the recipe's own commands call it.
_TOOLCHAIN = {
    "rustup": '#!/bin/sh\ntest "$*" = "toolchain install 1.96.1 --profile minimal --no-self-update"\n'
    'mkdir -p "$RUSTUP_HOME/toolchains/1.96.1"\n',
    "cargo": '#!/bin/sh\ncase "$*" in "+1.96.1 fetch --locked") mkdir -p "$CARGO_HOME"; touch "$CARGO_HOME/fetched";; '
    '"+1.96.1 --version") echo cargo 1.96.1;; *) exit 9;; esac\n',
    "rustc": '#!/bin/sh\ntest "$1" = +1.96.1 && echo rustc 1.96.1\n',
    "clang": "#!/bin/sh\necho clang\n",
    "protoc": "#!/bin/sh\necho protoc\n",
}
TOOLCHAIN_FOLDER = "toolchain"


@dataclass
class Upstreams:
    """Where they are, and what they saw: `contents` are the bytes that a lock has to end with, by component."""

    web: Upstream
    git_port: int
    fingerprint: str
    commit: str
    contents: dict[str, bytes] = field(default_factory=dict)

    def redirect(self, components: dict[str, Any]) -> dict[str, Any]:
        """Return the components of the recipe with the addresses of this machine; only addresses and the pinned key change."""
        found = {}
        for name, fields in components.items():
            changed = dict(fields)
            match fields["kind"]:
                case "github":
                    changed["api"] = self.web.url
                case "apt":
                    changed["repository"] = fields["repository"].replace(
                        "https://apt.datadoghq.com", f"{self.web.url}/apt"
                    )
                    changed["key"] = fields["key"].replace("https://keys.datadoghq.com", self.web.url)
                    changed["fingerprint"] = [*fields["fingerprint"], self.fingerprint]
                case "source" if "git" in fields:
                    url = fields["git"]["url"].replace("https://github.com", f"git://127.0.0.1:{self.git_port}")
                    changed["git"] = {**fields["git"], "url": url}
            found[name] = changed
        return found


@contextmanager
def serve_production(web: Upstream, components: dict[str, Any], folder: Path) -> Iterator[Upstreams]:
    """Serve everything that the components of the recipe name, until the end of the `with`."""
    commit = _make_agave(folder / "git/anza-xyz/agave.git", components["agave"]["version"])
    port = free_port()
    found = Upstreams(web, port, "", commit)
    found.contents |= _add_releases(web, components)
    found.contents["datadog-agent"], found.fingerprint = _add_apt(web, components["datadog-agent"], folder)
    argv = ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen([*argv, f"--base-path={folder / 'git'}"], stderr=subprocess.DEVNULL)
    try:
        _wait_for_git(f"git://127.0.0.1:{port}/anza-xyz/agave.git")
        yield found
    finally:
        daemon.terminate()
        daemon.wait(10)


def _wait_for_git(url: str) -> None:
    for _ in range(100):
        if subprocess.run(["git", "ls-remote", url], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def _add_releases(web: Upstream, components: dict[str, Any]) -> dict[str, bytes]:
    """Add the releases: each with its assets, upstream's checksum file where a component names one, and an asset of no interest."""
    contents: dict[str, bytes] = {}
    releases: dict[tuple[str, str], dict[str, bytes]] = {}
    for name, fields in components.items():
        if fields["kind"] == "github":
            contents[name] = f"{name} {fields['version']} ".encode() * 10_000
            assets = releases.setdefault(_release_of(fields), {"unrelated.txt": b"x"})
            assets[_expand(fields["asset"], fields)] = contents[name]
    for fields in components.values():
        if "checksums" in fields:
            assets = releases[_release_of(fields)]
            lines = [f"{hashlib.sha256(body).hexdigest()}  {item}\n" for item, body in assets.items()]
            assets[_expand(fields["checksums"], fields)] = "".join(lines).encode()
    private = {_release_of(fields) for fields in components.values() if fields.get("private")}
    for (repository, tag), assets in releases.items():
        web.add_release(repository, tag, assets, private=(repository, tag) in private)
    return contents


def _release_of(fields: dict[str, Any]) -> tuple[str, str]:
    return fields["repository"], _expand(fields.get("tag", "v{version}"), fields)


def _expand(text: str, fields: dict[str, Any]) -> str:
    return text.replace("{version}", fields["version"])


def _add_apt(web: Upstream, fields: dict[str, Any], folder: Path) -> tuple[bytes, str]:
    """Add the vendor's repository as it is laid out: section `7`, packed index, InRelease; return the .deb and who signed."""
    content = b"!<arch>\ndatadog" * 10_000
    pool = f"pool/d/da/{fields['package']}_{fields['version'].split(':')[-1]}_amd64.deb"
    paragraphs = [
        f"Package: {fields['package']}\nVersion: {version}\nArchitecture: amd64\nFilename: {place}\nSize: {len(body)}\n"
        f"SHA256: {hashlib.sha256(body).hexdigest()}\n"
        for version, place, body in (("1:7.1.0-1", "pool/d/da/old.deb", b"old"), (fields["version"], pool, content))
    ]
    index = gzip.compress("\n".join(paragraphs).encode(), mtime=0)
    place = f"{fields['section']}/binary-amd64/Packages.gz"
    release = f"Origin: Datadog, Inc.\nSuite: {fields['suite']}\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {place}\n"
    signed, key, fingerprint = _sign(release, folder)
    suite = f"/apt/dists/{fields['suite']}"
    web.files |= {f"{suite}/InRelease": signed, f"{suite}/{place}": index, f"/apt/{pool}": content, _KEY_PATH: key}
    return content, fingerprint


def _sign(text: str, folder: Path) -> tuple[bytes, bytes, str]:
    """Return the clear-signed text, the public key and its fingerprint, of a key that is made for it."""
    with tempfile.TemporaryDirectory(prefix="gpg", dir="/tmp") as home:  # its socket has to have a short path
        gpg = ["gpg", "--homedir", home, "--batch", "--yes", "--quiet"]
        made = [*gpg, "--passphrase", "", "--quick-generate-key", "Datadog (tests)", "ed25519", "sign", "never"]
        subprocess.run(made, check=True, capture_output=True)
        plain = folder / "Release"
        plain.write_text(text)
        signed = subprocess.run([*gpg, "--clearsign", "--output", "-", plain], check=True, capture_output=True).stdout
        key = subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
        listed = subprocess.run(
            [*gpg, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True
        ).stdout
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    return signed, key, next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))


def _make_agave(bare: Path, version: str) -> str:
    """Make the repository with an annotated tag, as upstream's are, and return the commit that it names."""
    work = bare.parent / "work"
    for name, text in (
        ("scripts/cargo-install-all.sh", _INSTALL_ALL),
        ("rust-toolchain.toml", '[toolchain]\nchannel = "1.96.1"\n'),
        *((f"{TOOLCHAIN_FOLDER}/{program}", text) for program, text in _TOOLCHAIN.items()),
    ):
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    for args in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        ("commit", "--quiet", "--message", version),
        ("tag", "--annotate", "--message", version, f"v{version}"),
        ("clone", "--quiet", "--bare", ".", str(bare)),
    ):
        _git(work, *args)
    return _git(bare, "rev-parse", f"v{version}^{{commit}}")


def _git(folder: Path, *args: str) -> str:
    environment = {**os.environ, **_WHO, "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", "-C", folder, *args], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()
