"""What all manifest models share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,62}$")]


class Model(BaseModel):
    """A frozen model that refuses unknown fields; its validator is built at first use, as most commands use few models."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
