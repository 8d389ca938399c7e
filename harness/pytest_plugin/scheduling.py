"""Under ``-n``, the checks of a cell run in one worker, one after another.

The timing of a cell compares its answers with those of the accuracy check, which must have ended
before. ``--dist loadgroup`` cannot be relied on: xdist 3.8 spreads the groups under pytest 9.2.
"""

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController


class CellScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out whole cells, in the order in which they were collected."""

    def __init__(self, config: "pytest.Config", log: "Producer | None" = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        """Return the cell that a check is of; a test without a cell stands alone."""
        return nodeid.partition("[")[2] or nodeid

    def remove_node(self, node: "WorkerController") -> str | None:
        """Take a worker out and return the check it crashed in, which xdist itself would run again."""
        checks = list(self.assigned_work[node].values())
        crashed = next(
            (name for unit in checks for name, is_done in unit.items() if not is_done), None
        )
        for unit in checks:
            if crashed in unit:
                unit[crashed] = True
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: "WorkerController") -> None:
        # A worker in the place of a crashed one has nothing to run before it has collected.
        if node in self.registered_collections:
            super()._reschedule(node)
