"""What every table of the contract is made of: strict values, and a source for each number."""

from typing import Annotated, Self, TypeVar

import pydantic

Row = TypeVar("Row")

Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
# Every result reaches a floor of 0.
Share = Annotated[float, pydantic.Field(gt=0.0, le=1.0)]
Tolerance = Annotated[float, pydantic.Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, pydantic.Field(gt=0.0)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0)]
Spread = Annotated[float, pydantic.Field(gt=0.0, lt=1.0)]
Count = Annotated[int, pydantic.Field(ge=1)]
Text = Annotated[str, pydantic.Field(min_length=1)]
# As in the file names of OpenMMLab: as many of the first digits as are known, at least eight.
WeightsDigest = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{8,64}$")]
Digest = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]
Filled = Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)]


class Table(pydantic.BaseModel):
    """A table of the file: strict types, no unknown key, no NaN, never changed."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Rows(dict[str, Row]):
    """Rows of a table by name, never changed, so that a value that has them can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Ceilings(Table):
    """A table of limits each of which may be left out, but not all of them."""

    source: Filled

    @pydantic.model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.model_dump(exclude={"source"}, exclude_none=True):
            names = ", ".join(name for name in type(self).model_fields if name != "source")
            raise ValueError(f"limits nothing; there are: {names}")
        return self
