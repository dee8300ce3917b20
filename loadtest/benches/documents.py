"""Documents: how many a core issues, how large they are, how long offline verification takes.

Time is CPU time of this process, so that other work on the machine counts little; the time-stamp authority is another
process. The credential is a stand-in of the usual size: making a real one takes well under a millisecond.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from federation.suites.registry import suite
from loadtest.authorities.seals import Leaf
from loadtest.bench import Figure, Scale
from node_agent.certificates import fonts
from node_agent.certificates.time_stamps import TimeAuthority
from node_agent.certificates.typesetting import _drawn, qr_svg
from tests.fakes.documents import QR_TEXT, Bureau, no_record

_KIB = 1024


def run(scale: Scale) -> Iterator[Figure]:
    """One page with QR code, credential and statement inside, sealed with a trusted time (PAdES B-LT)."""
    try:
        fonts.load()
    except fonts.FontsMissingError as error:
        yield Figure("no fonts on this machine", 0, "", least=1, note=str(error))
        return

    with (
        TemporaryDirectory(prefix="lantai-bench-") as name,
        Bureau(Path(name), stamped=False) as bureau,
        _time_stamps(bureau.stamper, Path(name)) as url,
    ):
        bureau.with_time(TimeAuthority(url, bureau.stamper.chain, bureau.crls))
        rounds = 30 if scale.quick else 150
        bureau.pdf(bureau.decision("warm:1"))  # the first reads fonts and asks the authority for a sample
        numbers = iter(range(1 << 30))
        issue = _cpu(lambda: bureau.issuing.issue(bureau.decision(f"b-{next(numbers)}:1")), rounds)
        yield Figure("certificates issued per core and second", 1 / issue, "1/s", least=15)
        floor = _cpu(_libraries_alone(bureau), rounds)
        yield Figure("issuing, times typst, segno and pyHanko alone", issue / floor, "×")
        made = bureau.pdf(bureau.decision("size:1"))
        yield Figure("one page, B-LT, credential inside", len(made) / _KIB, "KiB", most=120)
        note = bureau.pdf(bureau.decision("note:1", statement=no_record(), english=True))
        yield Figure("no-record note with its English page", len(note) / _KIB, "KiB")
        scanned = bureau.pdf(bureau.copy("scans:1", scans=bureau.copy().scans * 10))
        bureau.with_time(None)
        pending = _cpu(lambda: bureau.issuing.issue(bureau.decision(f"p-{next(numbers)}:1")), rounds)
        yield Figure("without a time-stamp authority (B-B)", 1 / pending, "1/s")
        trust, at = bureau.trust(), bureau.now + timedelta(minutes=1)
        yield Figure(
            "offline verification", _cpu(lambda: bureau.check(made, trust, at), rounds) * 1e3, "ms", most=50
        )
        verify = _cpu(lambda: bureau.check(scanned, trust, at), rounds)
        yield Figure(
            "the same with ten copied pages", verify * 1e3, "ms", note=f"{len(scanned) / _KIB:,.0f} KiB"
        )
        slowest = _slowest_flip(lambda pdf: bureau.check(pdf, trust, at), made, 200 if scale.quick else 2000)
        yield Figure("slowest of flipped documents", slowest * 1e3, "ms", most=200)
        yield from _signed_twice(bureau, url, rounds)


def _signed_twice(bureau: Bureau, url: str, rounds: int) -> Iterator[Figure]:
    """What a seal of a second suite (SM2 over SM3) adds, against documents sealed once, turn by turn in the same run."""
    authority = TimeAuthority(url, bureau.stamper.chain, bureau.crls)
    bureau.with_time(authority)
    once = bureau.sealer
    bureau.second = suite("sm-1").generate("SM2")
    bureau.with_time(authority)
    twice = bureau.sealer
    decision = bureau.decision("floor:2")
    sheets = bureau.issuing._sheets(decision, "330483-2026-000000", "2026-11-25", 0)
    made = bureau.typesetter.document(
        sheets, [], [], number="330483-2026-000000", compared="", captions=[], notes=[], qr_text=QR_TEXT,
        qr_caption=["字"], at=bureau.now,
    )  # fmt: skip
    sealing = _in_turn(
        lambda: once.seal(made.pdf, made.seal, "x", bureau.now), lambda: twice.seal(made.pdf, made.seal, "x", bureau.now), rounds
    )  # fmt: skip
    added = (sealing[1] - sealing[0]) * 1e3
    yield Figure("sealing twice, times once", sealing[1] / sealing[0], "×", note=f"{added:.1f} ms more")
    pdf, at = bureau.pdf(bureau.decision("twice:1")), bureau.now + timedelta(minutes=1)
    trust, asking = bureau.trust(), bureau.asking(bureau.start)
    checking = _in_turn(lambda: bureau.check(pdf, trust, at), lambda: bureau.check(pdf, asking, at), rounds)
    added = (checking[1] - checking[0]) * 1e3
    yield Figure(
        "verifying both seals, times one", checking[1] / checking[0], "×", note=f"{added:.1f} ms more"
    )


def _in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median CPU seconds of two pieces of work that take turns, so that what else the machine does meets both alike."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, times in zip((first, second), spent, strict=True):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
    return median(spent[0]), median(spent[1])


@contextmanager
def _time_stamps(leaf: Leaf, folder: Path) -> Iterator[str]:
    """A time-stamp authority in a process of its own: its work is not the issuing archive's."""
    key, certificate = leaf.write(folder, "time")
    command = [sys.executable, "-m", "loadtest.authorities.seals", str(key), str(certificate)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        child.wait()


def _cpu(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of one call."""
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return median(spent)


def _libraries_alone(bureau: Bureau) -> Callable[[], object]:
    """Setting, QR code and signature of one such page, with nothing checked, kept, logged or attached."""
    decision = bureau.decision("floor:1")
    sheets = bureau.issuing._sheets(decision, "330483-2026-000000", "2026-11-25", 0)
    made = bureau.typesetter.document(
        sheets, [], [], number="330483-2026-000000", compared="", captions=[], notes=[], qr_text=QR_TEXT,
        qr_caption=["字"], at=bureau.now,
    )  # fmt: skip
    data = {
        "fonts": fonts.FAMILIES, "title": "档案证明", "archive": "桐乡市档案馆", "number": "0", "keywords": [],
        "compared": "", "sheets": sheets, "qr_caption": [], "pages": [], "attachments": [], "short_code": "", "address_qr": "",
    }  # fmt: skip

    def work() -> None:
        _drawn(bureau.typesetter._compiler("document", data | {"qr": qr_svg(QR_TEXT)}), 0)
        bureau.sealer._sign(made.pdf, made.seal, "x", bureau.sealer._authority)

    return work


def _slowest_flip(check: Callable[[bytes], object], pdf: bytes, flips: int) -> float:
    chance, slowest = random.Random(7), 0.0
    for _ in range(flips):
        place = chance.randrange(len(pdf))
        mutated = pdf[:place] + bytes([pdf[place] ^ (1 << chance.randrange(8))]) + pdf[place + 1 :]
        began = time.process_time()
        check(mutated)
        slowest = max(slowest, time.process_time() - began)
    return slowest
