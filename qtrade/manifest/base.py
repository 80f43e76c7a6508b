"""What all manifest models share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,62}$")]

# What a host is in its environment.
HostRole = Literal["rpc", "validator"]


class Model(BaseModel):
    """A frozen model that refuses unknown fields; its validator is built at first use, as most commands use few models."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
