"""An offline model that somebody else built, accepted by its digest."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import BuildError, RunError
from harness.host.provenance import sha256_from_file
from harness.measure.passport import Passport
from harness.runtimes.ascend.environment import CannTools, PinnedOm, cann_environment
from harness.runtimes.ascend.passport import passport_of_om, passport_problems, shape_options
from harness.runtimes.ascend.probe import stamps_of
from harness.spec import OnnxModel


def passport_from_file(om: Path, tools: CannTools) -> Passport:
    """Return what an offline model says of itself; it need not be of any cell.

    Raises:
        RunError: atc cannot read it, or it is not there.
    """
    env = cann_environment(tools)
    if not om.is_file():
        raise RunError(f"there is no file {om}")
    tools.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="om-", dir=tools.scratch) as folder:
        return passport_of_om(om.resolve(), Path(folder), tools, env)


def accepted_om(
    pinned: PinnedOm, onnx: OnnxModel, soc_version: str, mode: str, target: Path, tools: CannTools
) -> Mapping[str, Any]:
    """Copy a foreign offline model to ``target`` and return facts for its provenance.

    ``soc_version`` and ``mode`` are the chip and the precision of its cell.

    Raises:
        BuildError: its digest is not the pinned one, atc cannot read it, or it is for another chip,
            batch size, gears or precision than the cell.
    """
    try:
        shutil.copyfile(pinned.om, target)
        if (digest := sha256_from_file(target)) != pinned.sha256:
            raise _refusal(pinned, f"its sha256 is {digest}, and site.toml pins {pinned.sha256}")
        passport = passport_from_file(target, tools)
    except (OSError, RunError) as error:
        raise _refusal(pinned, str(error)) from error
    if problems := list(passport_problems(passport, soc_version, shape_options(onnx), mode)):
        raise _refusal(pinned, "; ".join(problems))
    found = passport.model_copy(update={"is_foreign": True})
    return {
        "soc_version": passport.soc_version,
        "command": passport.command.split(),
        "om_name": pinned.om.name,
        "passport": found.model_dump(mode="json"),
        "emulated": bool(stamps_of(tools, cann_environment(tools))),
    }


def _refusal(pinned: PinnedOm, reason: str) -> BuildError:
    return BuildError(
        f"{pinned.om}, which site.toml names in place of a build, is refused: {reason}; correct"
        " [ascend.models], or remove the entry to build the model here"
    )
