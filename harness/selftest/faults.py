"""What a planted fault is, and whether it was caught."""

import dataclasses
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

from harness.selftest.setting import Answer, Setting

Plant = Callable[[Setting], AbstractContextManager[object]]
Trial = Callable[[Setting], Answer]
Outcome = Literal["caught", "escaped", "not applicable"]

# The model that faults are planted in, and the one for faults of several views.
MODEL, VIEWED = "nonlocal_tiny", "timesformer_tiny"


class NotApplicable(Exception):
    """This fault cannot be planted on this device; the message says why."""


class NotPlanted(Exception):
    """This fault cannot be planted, because what it would change is not there; the message says what."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way of being wrong.

    Attributes:
        family: what it is about, such as ``device``.
        name: what is wrong, in a few words; unique in its family.
        by: the check or the command that must catch it.
        finding: a regular expression that the answer must match.
        trial: plants it in a real run, and returns the answer.
        model: the model that it is planted in.
    """

    family: str
    name: str
    by: str
    finding: str
    trial: Trial
    model: str = MODEL

    @property
    def id(self) -> str:
        """Name it on a command line and in a table."""
        return f"{self.family}: {self.name}"


@dataclasses.dataclass(frozen=True)
class Caught:
    """Whether a fault was caught; ``said`` is what the check or the command printed, in one line."""

    fault: Fault
    outcome: Outcome
    said: str


def try_fault(fault: Fault, setting: Setting) -> Caught:
    """Plant a fault; it is caught if the run is not green and the answer matches the finding.

    A fault that could not be planted counts as escaped: nobody saw it caught.
    """
    try:
        answer = fault.trial(setting)
    except NotApplicable as error:
        return Caught(fault, "not applicable", str(error))
    except NotPlanted as error:
        return Caught(fault, "escaped", f"not planted: {error}")
    found = re.search(fault.finding, answer.said, re.DOTALL)
    if answer.status != 0 and found is not None:
        return Caught(fault, "caught", " ".join(found[0].split()))
    return Caught(fault, "escaped", f"exit status {answer.status}: {answer.said}")


def fault_of_run(
    family: str, name: str, check: str, finding: str, plant: Plant, model: str = MODEL
) -> Fault:
    """Return a fault that is planted in a run of the check that must catch it."""
    return Fault(family, name, check, finding, in_a_run(check, plant, model), model)


def in_a_run(check: str, plant: Plant, model: str = MODEL) -> Trial:
    """Return a trial that plants something and runs one check, or ``all``, with pytest."""

    def trial(setting: Setting) -> Answer:
        with plant(setting):
            return setting.run(check, model)

    return trial
