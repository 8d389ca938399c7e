"""The contract in its old form (schema 1), in which every cell repeated everything -> today's."""

from collections.abc import Mapping
from typing import Any

import pydantic

from harness.contract.tables import ThresholdsFile
from harness.contract.written import malformed, named
from harness.errors import ThresholdsError
from harness.judge.limits import AccuracyFloor, ThroughputReference


def file_of_schema_1(tables: Mapping[str, Any]) -> ThresholdsFile:
    """Return the complete tables of a contract in the old form, with the guides' numbers.

    The old form had no key for those: the page found them by words of the sources, as is done here.

    Raises:
        ThresholdsError: it is malformed; every problem is named by its key.
    """
    if tables.get("schema") != 1:
        raise ThresholdsError(f"is not in the old form: schema = {tables.get('schema')!r}, not 1")
    try:
        file = ThresholdsFile.model_validate({k: v for k, v in tables.items() if k != "schema"})
    except pydantic.ValidationError as error:
        raise malformed(named(error)) from error
    models = {
        name: model.model_copy(
            update={
                "devices": {
                    device: table.model_copy(
                        update={
                            "top1": _with_guide(table.top1, table.top1),
                            "top5": _with_guide(table.top5, table.top1),
                            "throughput": {
                                batch: _speed_with_guide(reference)
                                for batch, reference in table.throughput.items()
                            },
                        }
                    )
                    for device, table in model.devices.items()
                }
            }
        )
        for name, model in file.models.items()
    }
    return file.model_copy(update={"models": models})


def _with_guide(floor: AccuracyFloor, top1: AccuracyFloor) -> AccuracyFloor:
    # "golden: its 310P column", said of top-1 and meant of both.
    return floor.model_copy(
        update={"guide": floor.golden if "golden: its" in top1.source else None}
    )


def _speed_with_guide(reference: ThroughputReference) -> ThroughputReference:
    is_guide = "guide" in reference.source and reference.unit == "clips/s"
    return reference.model_copy(update={"guide": reference.golden if is_guide else None})
