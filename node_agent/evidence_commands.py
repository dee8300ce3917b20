"""`lantai-node evidence`: what an archive does with its own evidence log by hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from federation.process.os_errors import said
from federation.tlog import erasing
from federation.tlog.flaws import TEXTS, EvidenceError
from node_agent.certificates import keys as key_files
from node_agent.certificates.keys import KeysMissingError
from node_agent.certificates.sealing import SealError
from node_agent.evidence.archive_log import FILE


def configure_evidence(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    erase = actions.add_parser("erase", help=erasing.SUMMARY, description=erasing.SUMMARY)
    erase.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    erasing.configure(erase)


def run_evidence(args: argparse.Namespace) -> int:
    """Exit 1 with the reason when it can not be done."""
    folder = Path(args.data)
    try:
        keys = key_files.load(folder)
        return erasing.run(folder / FILE, keys.log, keys.second_log, args)
    except EvidenceError as error:
        text = TEXTS[error.flaw]
        told = f"{text.zh} · {text.en} ({error})"
    except (KeysMissingError, SealError) as error:
        told = str(error)
    except OSError as error:
        told = said(error)
    print(f"lantai-node evidence: {told}", file=sys.stderr)
    return 1
