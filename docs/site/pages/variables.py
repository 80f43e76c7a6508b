"""The environment variables that qtrade reads. A test compares the names with what the code asks for."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.site.pages.table import code, table

VARIABLES = {
    "QTRADE_PROJECT": (
        "Your project: the folder with `manifests/`. Left out: the working directory or a parent of it that has `manifests/hosts`, "
        "`images` or `environments`; else the checkout that qtrade runs from; else the working directory."
    ),
    "QTRADE_STATE_DIR": "The folder that holds everything that qtrade writes. Left out: `.state` in the project.",
    "QTRADE_STORE": (
        "Published images: a folder, or `s3://bucket/prefix` (extra `s3`). Left out: `store` in the state directory."
    ),
    "QTRADE_S3_ENDPOINT": "URL of an S3 that is not Amazon's.",
    "QTRADE_S3_CHECKSUMS": (
        "`when_required` (default; suits every S3) or `when_supported`: checksums of boto3's beside the signed SHA-256."
    ),
    "QTRADE_KEYS_DIR": "Trust set, signing keys and what opens secrets. Left out: `keys` in the state directory.",
    "QTRADE_SSH_IDENTITY": "The private key with which people log in to hosts; stands above `ssh.operator_identity_file`.",
    "QTRADE_GITHUB_TOKEN": "Used by `qtrade lock` alone, for releases of private repositories; never kept or shown.",
    "QTRADE_VAULT_ROLE_ID_FILE": "File with the role id of HashiCorp Vault's AppRole.",
    "QTRADE_VAULT_SECRET_ID_FILE": "File with the secret id of HashiCorp Vault's AppRole.",
    "QTRADE_VAULT_TOKEN_FILE": "File with a token of HashiCorp Vault.",
    "QTRADE_DATADOG_URL": "Datadog's API elsewhere than at the environment's site; for tests.",
    "QTRADE_DEPLOY_IDENTITY": "The private key that deploys log in with; stands above `ssh.identity_file` of manifests. For runners.",
    "QTRADE_LOG": "`json`: every line on stderr is one JSON object (`docs/output.md`). Left out: `text`.",
    "QTRADE_DEBUG": "Any value: a traceback with errors, as `--debug`.",
}

# Names in the code that nobody sets by hand: what our own programs tell each other.
INTERNAL = {
    "QTRADE_CONFINED": "the agent tells the copy of itself that may write to the OS disk only",
    "QTRADE_CALLER": "whoever starts the confined agent says which process it is: above it is the SSH connection",
    "QTRADE_SECRETS_DIR": "`qtrade workflow secrets` tells the later steps of a job where its tmpfs is",
    **dict.fromkeys(
        (
            "QTRADE_INPUTS",
            "QTRADE_STEPS",
            "QTRADE_NEEDS",
            "QTRADE_PULL_REQUEST",
            "QTRADE_SECRET_",
            "QTRADE_HOST",
            "QTRADE_ENVIRONMENT",
            "QTRADE_RECIPE",
            "QTRADE_VERSION",
            "QTRADE_CHANNEL",
            "QTRADE_DOOR",
            "QTRADE_PIN",
            "QTRADE_SET",
        ),
        "our workflows give them to `qtrade workflow` (docs/workflows.md)",
    ),
    "QTRADE_CLOCK_AHEAD_DAYS": "tests that look at expiry set it",
    "QTRADE_COMMIT": "a packed project says which commit it is",
}

OTHERS = {
    "ANSIBLE_VAULT_PASSWORD_FILE": "File with the password of ansible-vault; stands above those of the keys folder.",
    "AWS_*": "Credentials, profile and region, as boto3 reads them.",
    "DD_API_KEY, DD_APP_KEY": "Keys of Datadog, where an environment's `monitoring` names no others.",
    "ACTIONS_ID_TOKEN_REQUEST_URL, ACTIONS_ID_TOKEN_REQUEST_TOKEN": (
        "GitHub gives them to a job with `id-token: write`; a login to HashiCorp Vault by the job's identity reads them."
    ),
}


def render_variables() -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Environment variables\n",
            "qtrade needs none of them. Secrets never stand in one, but where `env:NAME` in a manifest says so.\n",
            table(("variable", "meaning"), ((code(name), text) for name, text in VARIABLES.items())),
            "Others that it passes on to what reads them:\n",
            table(("variable", "meaning"), ((code(name), text) for name, text in OTHERS.items())),
        ]
    )


def names_in_code(project: Path) -> dict[str, str]:
    """Return each `QTRADE_…` that is a whole string in the code, with the first file that has it."""
    found: dict[str, str] = {}
    for package in ("qtrade", "bake", "flash"):
        for file in sorted((project / package).rglob("*.py")):
            for name in _names(file):
                found.setdefault(name, str(file.relative_to(project)))
    return found


def _names(file: Path) -> Iterator[str]:
    text = file.read_text()
    for node in ast.walk(ast.parse(text)) if "QTRADE_" in text else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
            if name.startswith("QTRADE_") and name.replace("_", "").isalnum() and name.isupper() and name != "QTRADE_":
                yield name
