"""`lantai-gateway evidence …`: audit this gateway's log, hold it against what an archive stated, beside the gateway; erase of it."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from federation.tlog import erasing
from federation.tlog.__main__ import main as tlog
from federation.tlog.flaws import EvidenceError
from federation.tlog.note import Signer
from federation.tlog.reader import LogReader
from federation.tlog.reconcile import Account, Reconciliation
from gateway.evidence.log import second_signer_at
from gateway.evidence.reconciling import FOLDER, Stated, compare

OK, WRONG, CANNOT = 0, 1, 2


def audit(
    log: Path, key: Path, *, memory: Path | None, as_json: bool, stamp_roots: Path | None = None
) -> int:
    """Compute the whole log again; the newest checkpoint seen is remembered in `memory`, and compared the next time. With
    `stamp_roots` (PEM) its time stamps are checked too, with a second key beside the log's the signatures of both suites.
    """
    signer = Signer.parse(key.read_text("utf-8").strip())
    second = second_signer_at(key, signer.name)
    options = [
        "audit",
        str(log),
        "--key",
        str(signer.key),
        "--memory",
        str(memory or log.with_suffix(".seen")),
    ]
    if second is not None:
        options += ["--second-key", str(second.key)]
    if stamp_roots is not None:
        options += ["--tsa-root", str(stamp_roots)]
    return tlog([*options, "--json"] if as_json else options)


def erase(log: Path, key: Path, options: argparse.Namespace) -> int:
    """Erase contents of events of a request, while the gateway is stopped; the exit status. EvidenceError says why not."""
    signer = Signer.parse(key.read_text("utf-8").strip())
    return erasing.run(log, signer, second_signer_at(key, signer.name), options)


def reconcile(
    log: Path, *, archive: str, account: Path | None, as_json: bool, others: Sequence[Path] = ()
) -> int:
    """Hold the log, with `others` of further replicas, against the accounts the archives stated last, or against one in a file; the exit status."""
    if account is not None:
        accounts = [_read(account, archive)]
    else:
        paths = sorted((log.parent / FOLDER).glob(f"{archive or '*'}.json"))
        accounts = [Stated.read(path) for path in paths]
    if not accounts:
        print("还没有对方的账目 · no account was fetched yet: kill -USR1 the gateway, or give --account FILE")
        return CANNOT
    status = OK
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(LogReader(path)) for path in (log, *others)]
        for stated in accounts:
            result = compare(readers, stated)
            status = status if result.ok else WRONG
            _tell(stated, result, as_json=as_json)
    return status


def _read(path: Path, archive: str) -> Stated:
    """As this gateway keeps it, or the bare account an archive wrote (`python -m federation.tlog account`)."""
    try:
        return Stated.read(path)
    except EvidenceError:
        account = Account.read(path.read_bytes())
        return Stated(archive, 0, int(path.stat().st_mtime * 1000), account)


def _tell(stated: Stated, result: Reconciliation, *, as_json: bool) -> None:
    counts = result.counts()
    if as_json:
        differences = [
            asdict(one) | {"ours": _line(one.ours), "theirs": _line(one.theirs)} for one in result.differences
        ]
        print(
            json.dumps(
                {"archive": stated.archive, "taken_ms": stated.taken_ms, **counts, "differences": differences}
            )
        )
        return
    print(
        f"{stated.archive}: 一致 agreed {counts['agreed']}，本方缺 missing here {counts['missing_here']}，"
        f"对方缺 missing there {counts['missing_there']}，不符 differ {counts['differs']}，在途 open {counts['open']}"
    )
    for one in result.differences:
        lacks = {"ours": "本方缺 missing here", "theirs": "对方缺 missing there"}.get(
            one.missing, "不符 differs"
        )
        print(f"✗ {one.request} {one.kind}: {lacks}")


def _line(line: object) -> dict[str, object] | None:
    return None if line is None else {name: getattr(line, name) for name in ("digest", "at_ms", "index")}
