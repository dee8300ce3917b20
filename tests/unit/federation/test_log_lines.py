"""Log lines as a process writes them: a closed set of keys, and nothing of what libraries or values would tell."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

PROCESS = """
import logging, sys
import structlog
from federation.process import log_lines
from federation.identity_number import check_digit

lost = []
log_lines.configure(frozenset({"event", "action", "kind", "where", "seconds"}), lambda: lost.append(1), quiet=["loud"])
log = structlog.get_logger()
log.debug("nobody reads this", action="a")
log.info("something happened", action="a", name="钱伟明", seconds=0.5)
log.warning("a type alone", kind=ValueError("钱伟明"), level="钱伟明", timestamp="钱伟明")
try:
    raise ValueError("钱伟明")
except ValueError:
    logging.getLogger("library").exception("could not read %s", "钱伟明")
logging.getLogger("loud").error("钱伟明")
try:
    check_digit("钱伟明")
except UnicodeEncodeError:
    logging.getLogger("library").exception("钱伟明")
logging.getLogger("library").error("钱伟明")
sys.stderr.close()
sys.stderr = open("/dev/full", "w")
log.error("no room")
sys.stderr = sys.stdout
print(len(lost))
"""


def test_a_line_has_the_keys_it_may_have_and_no_word_of_a_person():
    began = datetime.now(UTC)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROCESS], capture_output=True, check=True, text=True)  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    for line in lines:
        told = line.pop("timestamp")
        assert told.endswith("Z")
        assert began <= datetime.fromisoformat(told) <= datetime.now(UTC)
    own = lines[3].pop("where")  # in our own code, however deep below the error was raised
    assert own.startswith("federation.identity_number:")
    assert lines == [
        {"level": "info", "event": "something happened", "action": "a", "seconds": 0.5},
        {"level": "warning", "event": "a type alone", "kind": "ValueError"},
        {
            "level": "warning",
            "event": "a library reports",
            "action": "library",
            "kind": "ValueError",
            "where": "__main__:14",
        },
        {"level": "warning", "event": "a library reports", "action": "library", "kind": "UnicodeEncodeError"},
        {"level": "warning", "event": "a library reports", "action": "library", "kind": ""},
    ]
    assert done.stdout.split() == ["1"]  # the line that could not be written was counted, and spoiled nothing
