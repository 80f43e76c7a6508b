"""Files of ansible-vault: YAML mappings that are encrypted as a whole. Decrypted text is in this process's memory only."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from flash.secrets.references import LAB_VAULT
from qtrade import process
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Environment
from qtrade.settings import Settings

VAULT_PASSWORD = "vault-password"  # noqa: S105 - the name of a file
# A key beside KEY whose value is the last day (YYYY-MM-DD, UTC) on which KEY is good.
EXPIRES = "_expires"


def read_vault(settings: Settings, environment: Environment, where: str, path: Path) -> dict[str, str]:
    """Return what a vault file holds. Raises `NotFound` without file or password, `BadInput` for a wrong one, `ToolError`."""
    if not path.is_file():
        raise NotFound(f"{where}: {path} is no vault file", resolution=f"make it: `ansible-vault create {path}`")
    return _decrypt(path, password_file(settings, environment, where, path), path.stat().st_mtime_ns)


def write_vault(
    settings: Settings,
    environment: Environment,
    where: str,
    path: Path,
    changes: dict[str, str],
    *,
    drop: Sequence[str] = (),
) -> None:
    """Change and drop values of a vault file and encrypt it anew, in one step; comments in it are lost. Raises as `read_vault`."""
    document = {**read_vault(settings, environment, where, path), **changes}
    document = {name: value for name, value in document.items() if name not in drop}
    password = password_file(settings, environment, where, path)
    fresh = path.with_suffix(".new")
    options = ("--vault-password-file", str(password), "--output", str(fresh))
    # Through stdin, so that the values are on disk only encrypted.
    process.run(
        [process.beside_python("ansible-vault"), "encrypt", *options, "-"],
        stdin=yaml.safe_dump(document, allow_unicode=True).encode(),
    )
    fresh.chmod(path.stat().st_mode & 0o777)
    fresh.replace(path)


def password_file(settings: Settings, environment: Environment, where: str, path: Path) -> Path:
    """Return the file with the password: of the lab's own vault, else ANSIBLE_VAULT_PASSWORD_FILE, else in the keys folder.

    There `vault-password-<environment>` stands above `vault-password`. Raises `NotFound`.
    """
    own = settings.keys_dir / f"{VAULT_PASSWORD}-{environment.name}"
    if path == settings.keys_dir / LAB_VAULT:
        chosen = settings.keys_dir / VAULT_PASSWORD
    elif named := os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE"):
        chosen = Path(named).absolute()
    else:
        chosen = own if own.is_file() else settings.keys_dir / VAULT_PASSWORD
    if not chosen.is_file():
        raise NotFound(f"{where}: no vault password", resolution=f"set ANSIBLE_VAULT_PASSWORD_FILE, or write {own}")
    return chosen


@lru_cache(maxsize=64)
def _decrypt(path: Path, password: Path, changed_ns: int) -> dict[str, str]:
    del changed_ns  # a file that was changed is read again
    done = process.run(
        [process.beside_python("ansible-vault"), "view", "--vault-password-file", password, path], check=False
    )
    if done.returncode != 0:
        if "Decryption failed" in done.stderr:
            raise BadInput(
                f"the password in {password} does not open {path}",
                resolution=f"write the right one into {password}, or name its file in ANSIBLE_VAULT_PASSWORD_FILE",
            )
        raise process.failed(done)
    try:
        document = yaml.safe_load(done.stdout)
    except yaml.YAMLError:
        # The parser's own words would quote the secrets.
        raise BadInput(f"{path} is no YAML once decrypted", resolution="correct it with `ansible-vault edit`") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds no mapping", resolution="write `name: value` lines with `ansible-vault edit`")
    return {str(name): str(value) for name, value in document.items()}
