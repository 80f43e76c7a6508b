"""A staked identity: which of the hosts may hold it, and who tells what it voted. Hosts boot without it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model, Name

Address = Annotated[str, Field(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$")]


class Identity(Model):
    """One staked identity. `address` is its public key, `keypair` a reference to the secret one (64 numbers, as solana-keygen writes it).

    `reference_rpcs` are JSON-RPC addresses of the cluster that are none of these hosts: slots and votes are what they say.
    """

    schema_version: Literal[1]
    name: Name
    environment: Literal["development", "staging", "production"]
    address: Address
    vote_account: Address
    keypair: str = Field(pattern=r"^(env|vault):")
    hosts: tuple[Name, ...] = Field(min_length=1, description="who may hold it; all of them are asked each time")
    reference_rpcs: tuple[Annotated[str, Field(pattern=r"^https?://")], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Identity":
        for name in ("hosts", "reference_rpcs"):
            given = getattr(self, name)
            if len(set(given)) != len(given):
                raise ValueError(f"{name} names one twice")
        if self.environment == "production" and len(self.reference_rpcs) < 2:
            raise ValueError("reference_rpcs: production needs two or more, as one may be wrong")
        return self
