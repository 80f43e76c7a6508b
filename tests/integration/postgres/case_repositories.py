"""Backups over SFTP and to S3, as hosts make them: one backup and one restore to a point in time each, and no secret in sight.

The servers are OpenSSH's of the layers and moto's behind TLS, both in the network namespace of the test.
"""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.integration.postgres.backups import PASS_PHRASE, back_up, configure, restore
from tests.integration.postgres.conftest import Host

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[3]
SFTP_PORT, S3_PORT, MOTO_PORT = 2222, 8443, 8080
BACKUPS, BUCKET = "/srv/backups", "qtrade-backups"
SFTP_UID = 1500
S3_KEY, S3_SECRET = "AKIDOFTHISTEST", "secret-of-the-bucket/0123456789"
CA = "/etc/ssl/test-ca.pem"
SSHD = f"""Port {SFTP_PORT}
ListenAddress 127.0.0.1
HostKey /etc/ssh/test_rsa
HostKey /etc/ssh/test_ecdsa
HostKey /etc/ssh/test_ed25519
AuthorizedKeysFile /etc/ssh/test_user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
AllowUsers vault
Subsystem sftp internal-sftp
ForceCommand internal-sftp
LogLevel VERBOSE
"""


@dataclass
class Repository:
    """A server that takes backups: what the host is told of it, what it says, and what it has."""

    options: dict[str, Any]
    secrets: dict[str, str]
    read_log: Callable[[], str]
    read_files: Callable[[], dict[str, bytes]]
    used: str
    words: list[str] = field(default_factory=list)


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server ended at once"
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.1)


@contextmanager
def running(argv: list[str], log: Path, port: int, **options: Any) -> Iterator[None]:
    with log.open("wb") as sink, subprocess.Popen(argv, stdout=sink, stderr=sink, **options) as server:
        try:
            wait_until_open(port, server)
            yield
        finally:
            server.terminate()


def make_key(path: Path, *options: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *options], check=True)
    return path.with_name(f"{path.name}.pub").read_text().split()[1]


@contextmanager
def sftp(host: Host) -> Iterator[Repository]:
    """OpenSSH with an account that may do SFTP and nothing else; what it keeps, the database's account cannot read."""
    for folder, owner in (("/run/sshd", 0), (BACKUPS, SFTP_UID)):
        host.path(folder).mkdir(parents=True, mode=0o700, exist_ok=True)
        os.chown(host.path(folder), owner, owner)
    host.run("useradd", f"--uid={SFTP_UID}", "--no-create-home", "--password=*", "vault", account="0:0")
    # As Debian's server has them; of which one the fingerprint is, libssh2 decides (docs/runbooks/postgres.md).
    public = [make_key(host.path(f"/etc/ssh/test_{kind}"), "-t", kind) for kind in ("rsa", "ed25519", "ecdsa")][-1]
    make_key(host.path("/etc/ssh/test_user_key"), "-t", "rsa", "-m", "PEM")
    key = host.path("/etc/ssh/test_user_key")
    host.path("/etc/ssh/test_sshd_config").write_text(SSHD)
    fingerprint = hashlib.sha256(base64.b64decode(public)).hexdigest()
    options = {"type": "sftp", "path": BACKUPS, "sftp-host": "127.0.0.1", "sftp-host-port": SFTP_PORT}
    options |= {"sftp-host-user": "vault", "sftp-host-key-hash-type": "sha256", "sftp-host-fingerprint": fingerprint}
    secrets = {"postgres_backup_sftp_key": key.read_text().strip()}
    key.unlink()
    log = host.path("/run/sshd.log")
    argv = ["chroot", str(host.root), "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/test_sshd_config"]
    with running(argv, log, SFTP_PORT):
        yield Repository(
            options, secrets, log.read_text, lambda: host.fingerprint(BACKUPS), "Accepted publickey for vault"
        )


def make_certificates(folder: Path) -> None:
    """Make a CA of the test, and a certificate for localhost that it vouches for."""
    subject = ["-subj", "/CN=qtrade-test-ca", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    openssl = ["openssl", "req", "-x509", *subject, "-keyout", folder / "ca.key", "-out", folder / "ca.pem"]
    subprocess.run(openssl, check=True, capture_output=True)
    request = [
        "openssl",
        "req",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=localhost",
        "-keyout",
        folder / "s3.key",
    ]
    subprocess.run([*request, "-out", folder / "s3.csr"], check=True, capture_output=True)
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    sign = ["openssl", "x509", "-req", "-in", folder / "s3.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"]
    sign += ["-days", "2", "-extfile", folder / "names", "-out", folder / "s3.pem"]
    subprocess.run(sign, check=True, capture_output=True)


@contextmanager
def s3(host: Host) -> Iterator[Repository]:
    """Moto behind TLS, in a process of its own."""
    folder = host.path("/run/s3")
    folder.mkdir()
    make_certificates(folder)
    shutil.copyfile(folder / "ca.pem", host.path(CA))
    hosts = host.path("/etc/hosts")
    hosts.write_text(f"127.0.0.1 localhost\n{hosts.read_text() if hosts.exists() else ''}")
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(MOTO_PORT)]
    options = {
        "type": "s3",
        "path": "/rpc-1",
        "s3-bucket": BUCKET,
        "s3-endpoint": "localhost",
        "s3-region": "us-east-1",
    }
    options |= {"bundle": "y", "s3-uri-style": "path", "storage-port": S3_PORT, "storage-ca-file": CA}
    secrets = {"postgres_backup_s3_key": S3_KEY, "postgres_backup_s3_secret": S3_SECRET}
    proxy = [sys.executable, "-m", "tests.fakes.tls_proxy", str(S3_PORT), str(MOTO_PORT)]
    proxy += [str(folder / "s3.pem"), str(folder / "s3.key")]
    with running(argv, folder / "log", MOTO_PORT), running(proxy, folder / "proxy.log", S3_PORT, cwd=PROJECT):
        client = boto3.client(
            "s3",
            endpoint_url=f"https://localhost:{S3_PORT}",
            aws_access_key_id=S3_KEY,
            aws_secret_access_key=S3_SECRET,
            region_name="us-east-1",
            verify=str(folder / "ca.pem"),
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=BUCKET)

        def read_files() -> dict[str, bytes]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            names = [item["Key"] for page in pages for item in page.get("Contents", [])]
            return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

        yield Repository(options, secrets, (folder / "log").read_text, read_files, f"PUT /{BUCKET}/rpc-1/backup/main/")


@contextmanager
def watched_processes(words: list[str]) -> Iterator[None]:
    """Collect the command lines and environments of pgBackRest's processes."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    line = (folder / "cmdline").read_text()
                    if "pgbackrest" in line:
                        words.append(line + (folder / "environ").read_text())
                except (OSError, UnicodeDecodeError):
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("serve", [sftp, s3])
def test_a_backup_is_restored_and_no_secret_is_seen(
    serve: Callable[[Host], AbstractContextManager[Repository]], bare: Host
) -> None:
    bare.mount()
    with ExitStack() as stack:
        stack.callback(bare.unmount)
        repository = stack.enter_context(serve(bare))
        configure(bare, repository.options, repository.secrets)
        bare.path("/run/server.log").unlink(missing_ok=True)
        bare.path("/var/lib/qtrade-postgres/backups.json").unlink(missing_ok=True)
        bare.python("init_cluster")
        stack.callback(lambda: bare.server and bare.kill())
        with watched_processes(repository.words):
            bare.start()
            bare.python("migrate")
            moment = back_up(bare)
            restore(bare, moment)
        files = repository.read_files()
        assert len(files) > 5
        assert {content[:8] for content in files.values()} == {b"Salted__"}
        assert repository.used in repository.read_log()
        assert len(repository.words) > 3
        seen = "".join([bare.log, repository.read_log(), *repository.words])
        assert "deprecated" not in bare.log
        for secret in (PASS_PHRASE, *repository.secrets.values()):
            assert secret not in seen
