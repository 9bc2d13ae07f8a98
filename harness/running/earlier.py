"""What cells build on: the arrays of those before them, whether they were read or measured."""

from collections.abc import Mapping, Sequence

from harness.refusal import Failure
from harness.storage.cells import CellStore, Description
from harness.suites.base import Arrays, Cell, Where


class Earlier:
    """The arrays of the cells that others name in their `after`.

    Args:
        cells: Of an evaluation, with the `descriptions` that find them in the `store`.
    """

    def __init__(
        self, cells: Sequence[Cell], descriptions: Sequence[Description], store: CellStore
    ) -> None:
        self._store = store
        self._keys = {
            (cell.condition, cell.level): d.key for cell, d in zip(cells, descriptions, strict=True)
        }
        self._measured: dict[Where, Arrays] = {}
        self._named = {where for cell in cells for where in cell.after}

    def add(self, cell: Cell, arrays: Arrays) -> None:
        """Take what was just measured: a folder may be one that nothing can be written to."""
        if (where := (cell.condition, cell.level)) in self._named:
            self._measured[where] = arrays

    def of(self, cell: Cell) -> Mapping[Where, Arrays]:
        """Return what a cell builds on.

        Raises:
            Failure: A stored cell is not there any more.
        """
        return {where: self._find(where) for where in cell.after}

    def _find(self, where: Where) -> Arrays:
        found = self._measured.get(where) or self._store.read(self._keys[where])
        if found is None:
            raise Failure(
                f"The stored cell of {where[0]} {where[1]:g} was lost meanwhile. Run the same "
                "command again; what is done is kept."
            )
        return found
