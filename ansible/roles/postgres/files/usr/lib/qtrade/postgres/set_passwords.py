"""Give roles the passwords that came as credentials. The server gets SCRAM verifiers; the passwords stay in this process."""

import base64
import hashlib
import hmac
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

PSQL = ("/usr/bin/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
ROLES = ("qtrade_client", "qtrade_readonly", "qtrade_metrics")
# The unit's stand-in for a secret that was not sent.
NOT_SENT = "-"
ITERATIONS = 4096
# Other characters would have to be prepared by SASLprep on both sides; a generated password does not need them.
_PASSWORD = re.compile(r"[!-~]{12,200}")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")


def make_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return PostgreSQL's form of a SCRAM-SHA-256 verifier (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def fits(password: str, verifier: str) -> bool:
    """Say whether a verifier is of this password."""
    match = _VERIFIER.fullmatch(verifier)
    if not match:
        return False
    return hmac.compare_digest(make_verifier(password, base64.b64decode(match[2]), int(match[1])), verifier)


def read_passwords(folder: Path) -> dict[str, str]:
    """Return the passwords that were sent, by role. Raises `ValueError`, which does not hold the value."""
    found = {}
    for role in ROLES:
        name = f"postgres_{role.removeprefix('qtrade_')}_password"
        path = folder / name
        value = path.read_text().rstrip("\n") if path.is_file() else NOT_SENT
        if value == NOT_SENT:
            continue
        if not _PASSWORD.fullmatch(value):
            raise ValueError(f"secret {name}: 12 to 200 printable ASCII characters without blanks are wanted")
        found[role] = value
    return found


def render_change(role: str, verifier: str) -> str:
    """Return the statements that set a verifier, and keep it out of the server's log, slow or failed."""
    return (
        "SET log_statement = none;\nSET log_min_duration_statement = -1;\nSET log_min_error_statement = panic;\n"
        f"ALTER ROLE {role} PASSWORD '{verifier}';\n"
    )


def query(sql: str) -> list[str]:
    """Return the lines that psql prints; the statements go by stdin."""
    command = [*PSQL, "--dbname=postgres", "--file=-"]
    return subprocess.run(command, input=sql, text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines()


def main() -> None:
    """Set what differs."""
    try:
        passwords = read_passwords(Path(os.environ["CREDENTIALS_DIRECTORY"]))
    except ValueError as error:
        sys.exit(str(error))
    rows = query(
        "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'qtrade\\_%' AND rolpassword IS NOT NULL;"
    )
    known = dict(row.split("|", 1) for row in rows)
    for role, password in passwords.items():
        if not fits(password, known.get(role, "")):
            query(render_change(role, make_verifier(password, secrets.token_bytes(16))))
            sys.stdout.write(f"{role}: password set\n")


if __name__ == "__main__":
    main()
