"""What all predicates of statements share."""

from pydantic import BaseModel, ConfigDict


class Predicate(BaseModel):
    """As in-toto demands, readers pass over fields that they do not know."""

    # Built when first read: a bake that reads no statement does not wait for it.
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)
