"""A unit of work on one case: what is handed to the store, and how it ended."""

from __future__ import annotations

import msgspec

from gateway.cases.case import Case, Entry, Event, Stopped, Task, decode_case


class Unit(msgspec.Struct):
    """One unit of work on one case.

    With `new`, the case is created under (client, `key`): the same key and `digest` again gives the stored case, another
    digest a Refusal. An event under a key of `client` works alike: again, it gives the case as it is now. `lease` (task
    id, fence) must still be held, or the unit is fenced and nothing happens. `message` is the id of a desk's message: the
    second time it is a duplicate. `completes` are tasks done whoever holds them. `postpone_ms` makes the leased task
    visible again then instead of completing it; `bury` gives it up for the operator.
    """

    case_id: str
    event: Event | None = None
    new: Case | None = None
    client: str = ""
    key: str = ""
    digest: str = ""
    lease: tuple[str, int] | None = None
    message: str = ""
    completes: tuple[str, ...] = ()
    postpone_ms: int = 0
    bury: bool = False

    @property
    def asked_as(self) -> tuple[str, str]:
        """Whose key it is, and the key: what a request is known by when it comes again."""
        return (self.new.client if self.new is not None else self.client, self.key)


class Done(msgspec.Struct):
    """How a unit ended: applied, replayed (same idempotency key), duplicate (same message), fenced, or unknown case.
    `tasks` are due now and already leased to this process.
    """

    status: str
    raw: bytes = b""
    entries: list[Entry] = []
    tasks: list[Task] = []
    left: list[tuple[str, int]] = []
    stopped: Stopped | None = None
    next_ms: int = 0
    """When the earliest of what this unit ordered for later is due; 0 = nothing."""

    @property
    def case(self) -> Case:
        return decode_case(self.raw)


Result = Done | Exception
