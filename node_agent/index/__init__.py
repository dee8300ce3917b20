"""The archive's own index: one SQLite file with matching keys, replaced or changed atomically, never half.

Writers go through `open_for_import`, readers through `Lookup`: together the calls of `calls.py`; `open_for_preview` tells what
a writer would do. Nobody else knows that it is SQLite.
"""

from node_agent.index.calls import Elsewhere, HeldFile, HeldTable, Part, Reading, SourceCounts, Writing
from node_agent.index.elsewhere import Likeness, Sample, likeness
from node_agent.index.importer import Importer, ImportRefusedError, open_for_import, open_for_preview
from node_agent.index.lookup import Holdings, Lookup, NoIndexError, SearchCancelledError
from node_agent.index.opened import CategoryCount
from node_agent.index.search import Answer, Found, LongSearchError
from node_agent.index.troubles import UnusableIndexError

__all__ = [
    "Answer",
    "CategoryCount",
    "Elsewhere",
    "Found",
    "HeldFile",
    "HeldTable",
    "Holdings",
    "ImportRefusedError",
    "Importer",
    "Likeness",
    "LongSearchError",
    "Lookup",
    "NoIndexError",
    "Part",
    "Reading",
    "Sample",
    "SearchCancelledError",
    "SourceCounts",
    "UnusableIndexError",
    "Writing",
    "likeness",
    "open_for_import",
    "open_for_preview",
]
