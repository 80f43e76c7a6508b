"""A host in a chroot: what the units of the role postgres do, done by hand, with a file system in RAM as the data disk."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ACCOUNT = "402:402"
MOUNT = "/mnt/data"
LIBRARY = "/usr/lib/qtrade/postgres"
SHARE = "/usr/share/qtrade/postgres"


class Host:
    """The stacked layers, and programs that run in them as the server's account."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.baked: dict[str, Any] = json.loads(self.path(f"{SHARE}/server.json").read_text())
        self.major: str = self.baked["major"]
        self.data: str = self.baked["data_directory"]
        self.server: subprocess.Popen[bytes] | None = None
        self.path("/dev/shm").chmod(0o1777)  # the chamber's umask took something from it

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    @property
    def log(self) -> str:
        return self.path("/run/server.log").read_text()

    def run(
        self,
        *argv: str,
        stdin: str = "",
        check: bool = True,
        account: str = ACCOUNT,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = ["chroot", f"--userspec={account}", str(self.root), *argv]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        everything = {"PATH": path, "LC_ALL": "C.UTF-8", **(env or {})}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=everything)
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def python(
        self, name: str, *arguments: str, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.run("/usr/bin/python3", "-I", "-B", f"{LIBRARY}/{name}.py", *arguments, check=check, **options)

    def psql(self, sql: str, *, role: str = "postgres", check: bool = True, database: str = "qtrade") -> str:
        """Run statements as a role, by SET SESSION AUTHORIZATION, and return what psql prints: errors too without `check`."""
        script = sql if role == "postgres" else f"SET SESSION AUTHORIZATION {role};\n{sql}"
        options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
        done = self.run("psql", *options, f"--dbname={database}", "--file=-", stdin=script, check=check)
        return (done.stdout if check else done.stdout + done.stderr).strip()

    def mount(self) -> None:
        target = self.path(MOUNT)
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", str(target)], check=True)
        self.make_folders()

    def make_folders(self) -> None:
        """What units and tmpfiles.d make before a program of ours runs."""
        folders = (f"{MOUNT}/postgresql", f"{MOUNT}/postgresql/{self.major}", "/run/qtrade-postgres", "/run/postgresql")
        for folder in (*folders, "/run/qtrade-postgres-backup", "/var/lib/qtrade-postgres"):
            self.path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(self.path(folder), 402, 402)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path(MOUNT))], check=True)

    def start(self, *, env: dict[str, str] | None = None) -> None:
        program = f"/usr/lib/postgresql/{self.major}/bin/postgres"
        argv = (program, "-D", self.data, f"--config-file=/etc/postgresql/{self.major}/main/postgresql.conf")
        with self.path("/run/server.log").open("ab") as log:
            command = ["chroot", f"--userspec={ACCOUNT}", str(self.root), *argv]
            self.server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        deadline = time.monotonic() + 60
        while self.run("pg_isready", "--quiet", check=False).returncode != 0:
            assert self.server.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def stop(self) -> None:
        if self.server:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(60) == 0, self.log
            self.server = None

    def kill(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait(60)
        self.server = None

    def fingerprint(self, folder: str) -> dict[str, bytes]:
        base = self.path(folder)
        return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def bare() -> Host:
    """A host without its data disk."""
    return Host(Path(os.environ["QTRADE_TEST_ROOT"]))


@pytest.fixture(scope="module")
def host(bare: Host) -> Iterator[Host]:
    """A host whose server runs, with the schema of this image."""
    bare.mount()
    bare.python("init_cluster")
    bare.start()
    bare.python("migrate")
    yield bare
    if bare.server:
        bare.kill()
    bare.unmount()
