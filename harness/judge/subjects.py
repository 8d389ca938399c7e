"""Whether what a record rests on is what its contract names."""


def inputs_problem(wanted: str | None, digest: str | None) -> str | None:
    """Say that a record's inputs were not held against the contract's known answers, or None.

    Args:
        wanted: sha256 of the known answers that the contract names, if it does.
        digest: of those that the record names, if it does.
    """
    if wanted is None or digest == wanted:
        return None
    return (
        "the inputs were not compared with the known answers that the contract names: theirs are "
        f"{wanted:.16}, the record has {digest or 'none'}; run the check again with this suite"
    )


def weights_problem(model: str, wanted: str | None, digest: str) -> str | None:
    """Say that a checkpoint is not the contract's, or None.

    Args:
        model: name of the model in the contract.
        wanted: the first hex digits of the sha256 that the contract names, if it does.
        digest: sha256 of the checkpoint.
    """
    if wanted is None or digest.startswith(wanted):
        return None
    return (
        f"the checkpoint of {model} is not the contract's: its sha256 is {digest}, the contract says "
        f"{wanted}; to judge this one, put its digest below [models.{model}]: "
        f'weights = "{digest}"'
    )
