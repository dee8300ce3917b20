"""The register of short codes in the case store, so that all replicas know the same documents."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection, select

from federation.verify.status import StatusReference
from gateway.cases.schema import CERTIFICATES
from gateway.cases.store import Store
from gateway.cases.writer import Writer
from gateway.evidence.register import Registered


class StoredRegister:
    """Fills `gateway.evidence.register.Register`, and keeps what archives tell."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store, self._writer = store, writer

    def keep(self, one: Registered) -> asyncio.Future[None]:
        """Durable when the future ends. What a code was first said to be it stays, whoever says it again."""
        return self._writer.call(lambda store: store.change(lambda c, now_ms: _insert(c, one, now_ms)))

    async def by_code(self, code: str) -> Registered | None:
        return await self._first(CERTIFICATES.c.short_code == code)

    async def by_number(self, archive: str, number: str) -> Registered | None:
        return await self._first(CERTIFICATES.c.archive == archive, CERTIFICATES.c.number == number)

    async def _first(self, *where: Any) -> Registered | None:
        query = select(CERTIFICATES).where(*where).order_by(CERTIFICATES.c.at_ms).limit(1)
        row = await asyncio.to_thread(self._store.read, lambda c: c.execute(query).first())
        if row is None:
            return None
        status = StatusReference(row.status_uri, row.status_index)
        return Registered(
            row.short_code, row.archive, row.number, row.case_id, row.form, row.issued_on, row.document, status
        )  # fmt: skip


def _insert(connection: Connection, one: Registered, now_ms: int) -> None:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    row = {
        "short_code": one.short_code, "archive": one.archive, "number": one.number, "case_id": one.case_id,
        "form": one.form, "issued_on": one.issued_on, "document": one.document,
        "status_uri": one.status.uri, "status_index": one.status.index, "at_ms": now_ms,
    }  # fmt: skip
    connection.execute(insert(CERTIFICATES).on_conflict_do_nothing(index_elements=["short_code"]), [row])
