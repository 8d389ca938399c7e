"""The root of the values that a measuring stage leaves behind and a judge reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pydantic

from harness.errors import RecordError


class Measurement(pydantic.BaseModel):
    """A measured value: strict types, no unknown key, no NaN, never changed, stored as JSON.

    A metric that is undefined is None, so that no comparison with a limit can ever hold for it.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )

    @classmethod
    def from_json(cls, text: str | bytes, source: str | Path = "the stored value") -> Self:
        """Read a value that ``model_dump_json`` wrote.

        Raises:
            RecordError: ``text`` is damaged or of another schema.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise RecordError(f"{source} is not a valid {cls.__name__}: {error}") from error


def json_lines(values: Iterable[Measurement]) -> bytes:
    """Return values as a raw file, one a line."""
    return "\n".join(value.model_dump_json() for value in values).encode()
