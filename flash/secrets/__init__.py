"""Secrets: where they are, what may be read by whom, and how they come to hosts."""

from flash.secrets.ansible_vault import VAULT_PASSWORD
from flash.secrets.resolve import Found, look_up, resolve, resolve_secrets, secret_reader

__all__ = ["VAULT_PASSWORD", "Found", "look_up", "resolve", "resolve_secrets", "secret_reader"]
