"""Write what pgBackRest must know and no config may hold, from credentials, to files of its own account in RAM."""

import os
import sys
from pathlib import Path

FOLDER = Path("/run/qtrade-postgres-backup")
# The unit's stand-in for a secret that was not sent.
NOT_SENT = "-"
OPTIONS = {
    "postgres_backup_cipher": "repo1-cipher-pass",
    "postgres_backup_s3_key": "repo1-s3-key",
    "postgres_backup_s3_secret": "repo1-s3-key-secret",
}
SFTP_KEY = "postgres_backup_sftp_key"


def read_secrets(folder: Path) -> dict[str, str]:
    """Return the secrets that were sent, by name."""
    found = {}
    for name in (*OPTIONS, SFTP_KEY):
        path = folder / name
        value = path.read_text().strip() if path.is_file() else NOT_SENT
        if value != NOT_SENT:
            found[name] = value
    return found


def render_files(secrets: dict[str, str], folder: Path) -> dict[str, str]:
    """Return the files to write, by name. Raises `ValueError`, which does not hold a value."""
    lines = ["[global]"]
    files = {}
    for name, option in OPTIONS.items():
        value = secrets.get(name)
        if value is None:
            continue
        if not value or not value.isprintable():
            raise ValueError(f"secret {name} is not one line of text")
        lines.append(f"{option}={value}")
    if SFTP_KEY in secrets:
        files["sftp_key"] = secrets[SFTP_KEY] + "\n"
        lines.append(f"repo1-sftp-private-key-file={folder / 'sftp_key'}")
    return {**files, "secrets.conf": "\n".join(lines) + "\n"}


def write_files(files: dict[str, str], folder: Path) -> None:
    """Write the files, readable by their owner only, each whole; `sftp_key` goes when it is not among them."""
    for name in {"sftp_key", "secrets.conf"} - set(files):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        fresh = folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as sink:
            sink.write(text)
        fresh.replace(folder / name)


def main() -> None:
    """Write what was sent."""
    try:
        files = render_files(read_secrets(Path(os.environ["CREDENTIALS_DIRECTORY"])), FOLDER)
    except ValueError as error:
        sys.exit(str(error))
    write_files(files, FOLDER)
    if "repo1-cipher-pass" not in files["secrets.conf"]:
        sys.stdout.write("no secret postgres_backup_cipher: nothing is backed up until it is sent\n")


if __name__ == "__main__":
    main()
