"""Rows that repeat another row of their file, which are rejected, and codes that two of its records share, which is told of
both.
"""

from __future__ import annotations

import numpy as np

from node_agent.catalogue.account import RowAccount, TableAccount
from node_agent.catalogue.findings import Finding, RowFinding
from node_agent.record import Records


class Repeats:
    """Judges the rows of one table by what its file remembers. `counters` are the columns of running numbers, which may
    differ in rows that say the same.
    """

    def __init__(self, account: TableAccount, counters: tuple[int, ...]) -> None:
        self._account, self._memory, self._counters = account, account.memory, counters

    def rejects(self, row: RowAccount, cells: tuple[str, ...]) -> int:
        """The place of the earlier row that says the same, for which a row is rejected; 0 = there is none, and it is remembered."""
        first = self._memory.rows.first(self._row_key(cells), self._account.base | row.number)
        if first:
            self._reject(row, first)
        return first

    def check_code(self, row: RowAccount, code: str) -> None:
        """Warn when an earlier record has this code; it is remembered if not."""
        first = self._memory.codes.first(hash(code), self._account.base | row.number)
        if first:
            self._warn_shared(row, first)

    def noted(self, records: Records) -> Records:
        """Counts plain records that follow one another, and leaves out those whose row repeats another. All else that can
        be amiss is that a code is shared.
        """
        account, memory = self._account, self._memory
        places = account.base + np.array(records.rows, dtype=np.int64)
        keys = map(self._row_key, records.cells) if self._counters else map(hash, records.cells)
        repeats = memory.rows.first_of(np.array(list(keys), dtype=np.int64), places)
        codes = np.array(list(map(hash, records.codes)), dtype=np.int64)
        new = repeats == 0
        shared = np.zeros_like(repeats)
        shared[new] = memory.codes.first_of(codes[new], places[new])
        for place in np.flatnonzero(repeats | shared).tolist():
            row = RowAccount(account, records.rows[place])
            if repeats[place]:
                account.report.read += 1
                self._reject(row, int(repeats[place]))
            else:
                self._warn_shared(row, int(shared[place]))
                account.count_warned(row.number)
                records.flags[place] = tuple(row.flags)
        if not new.all():
            records = records.only(new.tolist())
        account.report.read += len(records)
        account.report.taken += len(records)
        return records

    def _row_key(self, cells: tuple[str, ...]) -> int:
        """What two rows share that say the same, running number aside."""
        if not self._counters:
            return hash(cells)
        return hash(tuple(cell for place, cell in enumerate(cells) if place not in self._counters))

    def _reject(self, row: RowAccount, first: int) -> None:
        table, number = self._memory.where(first)
        row.reject("", Finding.REPEATED_ROW, _pointer(table, number, seen_from=self._account.name))

    def _warn_shared(self, row: RowAccount, first: int) -> None:
        """Two records under one code: both are told of."""
        code, shared, here = "archival_code", Finding.SHARED_CODE, self._account.name
        table, number = self._memory.where(first)
        row.warn(code, shared, _pointer(table, number, seen_from=here))
        self._account.tell(
            RowFinding(table, number, code, shared, _pointer(here, row.number, seen_from=table))
        )
        self._memory.table(first).reasons[shared.value] += 1
        self._memory.count_warned(first)


def _pointer(table: str, number: int, *, seen_from: str) -> str:
    """Where the other row stands: its number, and its table when that is another one."""
    where = f"{table}#{number}" if table and table != seen_from else str(number)
    return f"第 {where} 行 · row {where}"
