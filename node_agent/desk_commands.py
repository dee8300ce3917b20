"""`lantai-node desk`: the desk's commands, and what an approval has to know of the archive's documents."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node_agent.desk import commands
from node_agent.desk.issuing import CanIssue
from node_agent.desk.records import IndexRecords
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup
from node_agent.settings import NodeSettings

configure_desk = commands.configure_desk


def run_desk(args: argparse.Namespace) -> int:
    """One look or one action. Exit 1 with the reason when it was refused."""
    return commands.run_desk(args, _checking)


@contextmanager
def _checking(
    folder: Path, settings: NodeSettings, lookup: Lookup, disclosure: Disclosure
) -> Iterator[CanIssue | None]:
    if not settings.documents:
        yield None
        return
    from node_agent.certificates import fonts  # only an approval pays for these imports
    from node_agent.certificates.scans import ScanReader
    from node_agent.issuance import OrderCheck

    chosen = settings.documents.get("fonts")
    loaded: fonts.FontSet | None = None
    with suppress(fonts.FontsMissingError):  # then no agent makes documents here
        loaded = fonts.load(Path(chosen) if chosen else None)
    scans = ScanReader()
    try:
        yield OrderCheck(folder, IndexRecords(lookup, disclosure.reference).find, scans, loaded)
    finally:
        scans.close()
