"""`lantai-node search`: the archive's own tool. Unmasked, and without the minimum-query rule of the federation."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from federation.categories import CATEGORIES
from federation.dates import DateSpan
from federation.explanation import explain, level_word
from federation.identity_number import IdJudgement, judge, repairs
from federation.names.invisible import visible
from federation.places import find
from federation.process.os_errors import said
from federation.query import Query
from federation.reasons import TEXTS, Reason, Refusal
from federation.scoring import Decision, decide
from node_agent.index import Answer, Found, Lookup, NoIndexError, UnusableIndexError
from node_agent.index.packing import year_of
from node_agent.index.troubles import Trouble, is_damage

_DECISIONS = {
    Decision.LIKELY.value: "很可能 likely",
    Decision.POSSIBLE.value: "可能 possible",
    Decision.NONE.value: "无 none",
}
_FLAT = {
    "name": "姓名 · name of the person",
    "id_number": "证件号，15 或 18 位 · ID number of 15 or 18 digits",
    "birth": "出生日期，年、年-月或年-月-日 · date of birth as YYYY, YYYY-MM or YYYY-MM-DD",
    "other_name": "另一方姓名 · name of the other party",
    "other_id_number": "另一方证件号 · ID number of the other party",
    "place": "地点：区划代码或地名 · place: code or name of a division",
    "certificate_no": "字号 · number of the certificate",
    "archival_code": "档号 · archival code",
    "title": "题名中的字词 · words of the title",
}
"""field -> what it is. A question of flags, or a flat one of a file, holds them."""


def configure_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--queries", metavar="FILE.jsonl", help="每行一个查询，- 为标准输入 · one query a line, - = stdin"
    )
    parser.add_argument("--json", action="store_true", help="每行一个 JSON 结果 · one JSON answer a line")
    parser.add_argument(
        "--limit",
        type=_count,
        default=10,
        metavar="N",
        help="每个查询的候选数 · candidates a query (default 10)",
    )
    parser.add_argument("--category", metavar="KEY", help=f"类别 · one of {', '.join(CATEGORIES)}")
    for field, text in _FLAT.items():
        parser.add_argument(f"--{field.replace('_', '-')}", metavar="TEXT", help=text)
    parser.add_argument(
        "--from", dest="event_from", metavar="YEAR", help="登记年份起 · first year of the event"
    )
    parser.add_argument("--to", dest="event_to", metavar="YEAR", help="登记年份止 · last year of the event")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST_CANDIDATES):
        raise argparse.ArgumentTypeError(f"应为 1 至 {_MOST_CANDIDATES} · must be 1 to {_MOST_CANDIDATES}")
    return int(text)


_MOST_CANDIDATES = 1_000


def run_search(args: argparse.Namespace) -> int:
    """Answer one question from flags, or one a line from a file. Exit 1 when the index or the file can not be read, or a
    question could not be asked.
    """
    lookup = Lookup(args.data)
    try:
        try:
            if not lookup.holdings().records:
                return _fail(
                    "索引中没有记录，请先运行 lantai-node import · the index holds no record; run lantai-node import first"
                )
        except OSError as error:
            return _fail(f"无法读取索引 · can not read the index: {said(error)}")
        if args.queries is None:
            return _one(lookup, args)
        refused = 0
        with _opened(args.queries) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    answer = _answer_line(lookup, line, number, args.limit)
                    refused += "error" in answer
                    _print(answer, as_json=args.json)
        if refused:
            return _fail(f"有 {refused} 行未能查询，原因见各行 · lines not asked, each says why: {refused}")
    except NoIndexError:
        return _fail(
            "尚未导入目录，请先运行 lantai-node import · nothing imported yet; run lantai-node import first"
        )
    except UnusableIndexError as error:
        return _fail(str(error))
    except sqlite3.Error as error:
        if is_damage(error):
            return _fail(str(UnusableIndexError(Trouble.FILE_DAMAGED)))
        return _fail(f"无法读取索引 · can not read the index: {error}")
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(f"无法读取查询文件 · can not read the queries: {error.strerror}")
    finally:
        lookup.close()
    return 0


def _one(lookup: Lookup, args: argparse.Namespace) -> int:
    flat = {field: value for field in _FLAT if (value := getattr(args, field))}
    flat |= {key: value for key, value in (("from", args.event_from), ("to", args.event_to)) if value}
    if args.category:
        flat["category"] = args.category
    if not flat:
        return _fail("请给出 --queries 或 --name 等条件 · give --queries, or --name and the like")
    result = _answer(lookup, flat, args.limit)
    _print(result, as_json=args.json)
    return 1 if "error" in result else 0


@contextlib.contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdin
    else:
        with Path(name).open(encoding="utf-8", errors="surrogateescape") as handle:
            yield handle


def _fail(message: str) -> int:
    print(f"lantai-node search: {message}", file=sys.stderr)
    return 1


def _answer_line(lookup: Lookup, line: str, number: int, limit: int) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(line.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeError):
        return {"id": None, "line": number, "error": Reason.MALFORMED_JSON.value}
    except RecursionError:
        return {"id": None, "line": number, "error": Reason.TOO_DEEP.value}
    if not isinstance(asked, dict):
        return {"id": None, "line": number, "error": Reason.WRONG_TYPE.value}
    answer = _answer(lookup, asked, limit)
    return {"id": asked.get("id"), **({"line": number} if "error" in answer else {}), **answer}


def _answer(lookup: Lookup, asked: dict[str, Any], limit: int) -> dict[str, Any]:
    try:
        query = query_from(asked)
    except Refusal as refusal:
        return {
            "candidates": [],
            "decision": "none",
            "error": refusal.reason.value,
            "pointer": refusal.pointer,
        }
    answer = lookup.search(query, limit=limit)
    return {
        **({"ignored": ignored} if (ignored := _not_compared(query)) else {}),
        "candidates": [_candidate(found, answer) for found in answer.found],
        "decision": decision_of(answer).value,
        **({"capped": True} if answer.capped else {}),
    }


def _not_compared(query: Query) -> list[str]:
    """The fields that were asked and say nothing to us: numbers of no valid form, words that name no division we know."""
    unread = {IdJudgement.WRONG_LENGTH, IdJudgement.BAD_CHARACTERS}
    found = [
        f"/{field}"
        for field in ("id_number", "other_id_number")
        if (number := getattr(query, field)) and judge(number) in unread and not repairs(number)
    ]
    return [*found, "/place"] if query.place and not find(query.place) else found


def decision_of(answer: Answer) -> Decision:
    """The decision of a whole answer is that of its best candidate."""
    if not answer.found:
        return Decision.NONE
    best = answer.found[0]
    return decide(best.score, answer.records, best.levels)


def _candidate(found: Found, answer: Answer) -> dict[str, Any]:
    persons = found.told.persons
    return {
        "archival_code": found.raw_code,
        "score": found.score,
        "level": level_word(found.levels),
        "explanation": explain(found.levels, category=found.category),
        "decision": decide(found.score, answer.records, found.levels).value,
        "category": found.category,
        "name": persons[found.person].name if persons else "",
        "year": year_of(found.told.event) or None,
        "title": found.told.title,
    }


def query_from(asked: dict[str, Any]) -> Query:
    """A query line in the form of the REST contract (subject, event, scope) or flat; Refusal names the field."""
    subject, event = _part(asked, "subject"), _part(asked, "event")
    flat = {**asked, **event, **subject}

    def text(field: str) -> str:
        value = flat.get(field)
        if value is None:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise Refusal(Reason.WRONG_TYPE, f"/{field}")
        return visible(value)

    def span(field: str) -> DateSpan | None:
        value = text(field)
        return DateSpan.written(value, f"/{field}") if value else None

    category = text("category")
    if category and category not in CATEGORIES:
        raise Refusal(Reason.UNKNOWN_CATEGORY, "/category")
    first = span("from") or span("year") or span("event_date")
    last = span("to") or first
    first = first or last
    if first is not None and last is not None and first.first > last.last:
        raise Refusal(Reason.IMPOSSIBLE_DATE, "/to")
    return Query(
        category=category,
        name=text("name"),
        id_number=text("id_number"),
        birth=span("birth") or span("birth_date"),
        other_name=text("other_name"),
        other_id_number=text("other_id_number"),
        event=DateSpan(first.first, last.last) if first is not None and last is not None else None,
        place=text("place"),
        certificate_no=text("certificate_no"),
        archival_code=text("archival_code"),
        title=text("title"),
    )


def _part(asked: dict[str, Any], field: str) -> dict[str, Any]:
    value = asked.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(Reason.WRONG_TYPE, f"/{field}")
    return value


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    whose = f"{result['id']}  " if result.get("id") else ""
    if "error" in result:
        text = TEXTS[Reason(result["error"])]
        whose = whose or (f"第 {result['line']} 行 line  " if "line" in result else "")
        where = f": {result['pointer'].removeprefix('/')}" if result.get("pointer") else ""
        print(f"{whose}{text.zh} · {text.en}{where}")
        return
    print(f"{whose}{_DECISIONS[result['decision']]}, 候选 candidates: {len(result['candidates'])}")
    if result.get("capped"):
        print(f"  {TEXTS[Reason.TOO_MANY_RECORDS].zh} · {TEXTS[Reason.TOO_MANY_RECORDS].en}")
    for pointer in result.get("ignored", ()):
        print(f"  无法辨认，未参与比对 · not understood and not compared: {pointer.removeprefix('/')}")
    for one in result["candidates"]:
        print(
            f"  {one['score']:6.1f}  {_DECISIONS[one['decision']]}  {one['archival_code']}  {one['name']}"
            f"  {one['year'] or '----'}  {one['explanation']}"
        )
