"""Shells of the machine's own Debian, unpacked and never installed: bash is there, zsh and fish are fetched by apt."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qtrade import process

_OFFERED = re.compile(r'(?:^|[(\s])"([^"]*)"(?::"[^"]*")?')
_PACKAGES = ("zsh", "zsh-common", "fish", "fish-common", "libpcre2-32-0")
_BASH = """
source {script}
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({words}); COMP_CWORD={last}
_qtrade_completion qtrade
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@dataclass(frozen=True)
class Shells:
    """The unpacked shells, and the environment in which `qtrade` is found by its name."""

    root: Path
    env: dict[str, str]

    def complete(self, shell: str, line: str) -> list[str]:
        """Return what a Tab at the end of `line` offers in that shell, with qtrade's own script loaded, in the shell's order."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            script = work / "script"
            script.write_text(self._run(["qtrade"], {"_QTRADE_COMPLETE": f"source_{shell}"}))
            match shell:
                case "bash":
                    return self._bash(work, script, line)
                case "fish":
                    return self._fish(script, line)
                case _:
                    return self._zsh(script, line)

    def _bash(self, work: Path, script: Path, line: str) -> list[str]:
        words = line.split(" ")
        text = _BASH.format(script=script, line=line, words=" ".join(f"'{one}'" for one in words), last=len(words) - 1)
        (work / "complete").write_text(text)
        return self._run(["bash", "--norc", "--noprofile", str(work / "complete")], {}).split()

    def _fish(self, script: Path, line: str) -> list[str]:
        share = self.root / "usr/share/fish"
        text = f"set -g fish_complete_path {share}/completions; source {script}; complete --do-complete '{line}'"
        said = self._run([str(self.root / "usr/bin/fish"), "--no-config", "-c", text], self._libraries())
        return [one.split("\t")[0] for one in said.splitlines()]

    def _zsh(self, script: Path, line: str) -> list[str]:
        """Call the function as zsh's completion system would; it ends in `_arguments`, whose specification is read in its place."""
        words = line.split(" ")
        quoted = " ".join(f"'{one}'" for one in words)
        text = (
            "compdef() { : }\n_arguments() { print -rl -- $@ }\n"
            f"source {script}\nwords=({quoted}); CURRENT={len(words)}\n_qtrade_completion\n"
        )
        zsh = self.root / "usr/bin/zsh"
        said = self._run([str(zsh if zsh.exists() else self.root / "bin/zsh"), "-f", "-c", text], self._libraries())
        # "history":"What it does" "…": what is offered, with or without a word on it.
        return _OFFERED.findall(said)

    def _libraries(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": ":".join(str(path) for path in self.root.glob("**/*-linux-gnu"))}

    def _run(self, argv: list[str], more: dict[str, str]) -> str:
        env = {**self.env, **more}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout


def unpack_shells(cache: Path) -> Path:
    """Return the folder with the unpacked shells, fetched once."""
    folder = cache / "tests/shells"
    if folder.exists():
        return folder
    fresh = Path(tempfile.mkdtemp(prefix="shells-", dir=_made(cache / "tests")))
    # apt drops its rights for a download, and must be able to write there.
    fresh.chmod(0o755)
    process.run(["apt-get", "download", "-qq", *_PACKAGES], cwd=fresh, timeout_s=300)
    for package in sorted(fresh.glob("*.deb")):
        process.run(["dpkg", "--extract", package, fresh])
    try:
        fresh.rename(folder)
    except OSError:  # another test was quicker
        shutil.rmtree(fresh)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
