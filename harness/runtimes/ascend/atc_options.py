"""What replaces the options of a guide's atc command line that a newer CANN is about to drop.

CANN 9.0 lists ``--op_select_implmode`` and ``--optypelist_for_implmode`` as deprecated; a file for
``--op_precision_mode`` says the same.
"""

import re
from collections.abc import Mapping, Sequence

DEPRECATED_SINCE = (9, 0)
PRECISION_FILE = "op_precision_mode.ini"
IMPLMODE = re.compile(r"--op_select_implmode=(high_precision|high_performance)")
OP_TYPES = re.compile(r"--optypelist_for_implmode=([\w,]+)")

Version = tuple[int, ...]


def version_from_text(version: object) -> Version:
    """Return the first two numbers of a version of CANN, such as 8.0.RC1; empty if there are none."""
    found = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return tuple(int(number) for number in found.groups()) if found else ()


def words_for_cann(
    words: Sequence[str], cann: str | None
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return the words that a version of CANN should get, and the files that they name.

    The words stay as they are for a CANN before 9.0, for an unknown one, and where no file says
    the same: a mode without operator types, or one of the modes "for all".
    """
    modes = [match[1] for word in words if (match := IMPLMODE.fullmatch(word))]
    lists = [match[1] for word in words if (match := OP_TYPES.fullmatch(word))]
    if version_from_text(cann) < DEPRECATED_SINCE or len(modes) != 1 or len(lists) != 1:
        return tuple(words), {}
    kept = [word for word in words if not (IMPLMODE.fullmatch(word) or OP_TYPES.fullmatch(word))]
    lines = ["[ByOpType]", *(f"{name}={modes[0]}" for name in lists[0].split(","))]
    return (
        (*kept, f"--op_precision_mode={PRECISION_FILE}"),
        {PRECISION_FILE: "\n".join(lines) + "\n"},
    )
