"""Whether what a record rests on is what its contract names."""

import re


def inputs_problem(wanted: str | None, digest: str | None) -> str | None:
    """Say that a record names other known answers of inputs, by sha256, than its contract wants, or None."""
    if wanted is None or digest == wanted:
        return None
    return (
        "the inputs were not compared with the known answers that the contract names: theirs are "
        f"{wanted:.16}, the record has {digest or 'none'}; run the check again with this suite"
    )


def weights_problem(model: str, wanted: str | None, digest: str) -> str | None:
    """Say that a checkpoint's sha256 does not begin with the digits that its contract wants, or None."""
    if wanted is None or digest.startswith(wanted):
        return None
    return (
        f"the checkpoint of {model} is not the contract's: its sha256 is {digest}, the contract says "
        f"{wanted}; to judge this one, put its digest below [models.{model}]: "
        f'weights = "{digest}"'
    )


def chip_problem(wanted: str | None, chip: str | None) -> str | None:
    """Say that a speed is of another chip than its golden, or None.

    Args:
        wanted: words of the name of the golden's chip; None: the contract does not say.
        chip: as the driver names it, or several of them with " or " between; None: not known.
    """
    names = (chip or "").split(" or ")
    if wanted is None or all(re.search(rf"\b{re.escape(wanted)}\b", name) for name in names):
        return None
    return (
        f"the golden is of the chip {wanted}, and this one is {chip or 'unknown'}: the speed of one says "
        "nothing about the other; run on that chip, or take a golden here with harness calibrate"
    )
