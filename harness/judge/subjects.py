"""Whether what a record rests on is what its contract names."""


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
