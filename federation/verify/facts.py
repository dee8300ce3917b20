"""What a verified document states, as rows for people: a label in both languages, and the value in the record's own characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from federation.categories import CATEGORIES, PURPOSES
from federation.outcome import NotAsked
from federation.reasons import Text

FORMS: dict[str, Text] = {
    "certified_copy": Text("档案复制件证明", "Certified copy"),
    "recorded_facts": Text("档案证明", "Certificate of recorded facts"),
    "no_record": Text("查无档案记载证明", "Note that no record was found"),
}

_LABELS: dict[str, Text] = {
    "archive": Text("出具档案馆", "Issued by"),
    "archive_name": Text("出具档案馆", "Issued by"),
    "issued_on": Text("出具日期", "Issued on"),
    "issued_at": Text("出具时间", "Issued at"),
    "expires_on": Text("有效期至", "Valid until"),
    "expires_at": Text("有效期至", "Valid until"),
    "replaces": Text("取代的证明", "It replaces"),
    "purpose": Text("出具用途", "Issued for"),
    "purposes": Text("出具用途", "Issued for"),
    "kind": Text("种类", "Kind"),
    "category": Text("档案类别", "Category"),
    "archival_code": Text("档号", "Archival code"),
    "title": Text("题名", "Title"),
    "name": Text("姓名", "Name"),
    "id_number": Text("证件号码", "ID number"),
    "other_name": Text("对方姓名", "Other party"),
    "other_id_number": Text("对方证件号码", "ID number of the other party"),
    "event_date": Text("日期", "Date"),
    "date": Text("形成日期", "Date"),
    "responsible": Text("责任者", "Responsible body"),
    "certificate_no": Text("证书字号", "Certificate no."),
    "marital_status": Text("婚姻状况", "Marital status"),
    "place": Text("地点", "Place"),
    "role": Text("身份", "Role"),
    "compared_on": Text("核对日期", "Compared on"),
    "value": Text("记载", "Recorded"),
    "name_forms": Text("所查姓名写法", "Forms of name searched"),
    "years": Text("年份范围", "Years"),
    "searched_on": Text("查询日期", "Searched on"),
    "outcome": Text("查询结果", "Result"),
    "holdings": Text("所查类别", "Categories searched"),
    "index_date": Text("目录截至", "Index as of"),
    "reason": Text("未查原因", "Why not asked"),
    "sealed_before": Text("印章早于", "Sealed before"),
}
_RESULTS: dict[str, Text] = {
    "empty": Text("查无", "none found"),
    "not_asked": Text("未查", "not asked"),
    NotAsked.OUT_OF_SCOPE: Text("不在所声明的范围内", "outside the declared scope"),
    NotAsked.CATEGORY_NOT_HELD: Text("未藏此类档案", "does not hold this category"),
    NotAsked.YEARS_NOT_HELD: Text("未藏该年份档案", "holds no record of these years"),
    NotAsked.MEMBERSHIP_FILTER: Text("目录过滤器排除", "excluded by its index filter"),
}
_HOLDER = Text("持有人", "Holder")
_PROVED: dict[str, Text] = {
    "proved": Text("由持有人出示", "proved"),
    "not proved": Text("出示者未经证明", "not proved"),
}
_FOR_MACHINES = frozenset({"digest", "content_sha256", "sha256", "pages", "records", "width", "height"})


def rows(facts: Mapping[str, Any], most: int | None = None) -> list[tuple[Text, str]]:
    """The facts of a report in reading order, at most so many; nothing that only machines can use."""
    return list(islice(_rows(facts), most))


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[Text, str]]:
    yield from _flat({name: value for name, value in facts.items() if name != "holder"})
    if proved := _PROVED.get(facts.get("holder", "")):  # ours to say: not what the document states
        yield _HOLDER, f"{proved.zh} · {proved.en}"


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[Text, str]]:
    if {"zh", "en", "value"} <= facts.keys():  # a recorded fact brings its own label
        yield Text(str(facts["zh"]), str(facts["en"])), str(facts["value"])
        return
    for name, value in facts.items():
        if name in _FOR_MACHINES or value is None or value == "":
            continue
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for one in value:
                if isinstance(one, Mapping):
                    yield from _flat(one)
        else:
            label = _LABELS.get(name, Text(name, name))
            several = value if isinstance(value, list | tuple) else [value]
            yield label, "、".join(_said(name, str(one)) for one in several)


def _said(name: str, value: str) -> str:
    """A code of a closed list in words; everything else as it is."""
    match name:
        case "category" if value in CATEGORIES:
            text = CATEGORIES[value].name
        case "purpose" | "purposes" if value in PURPOSES:
            text = PURPOSES[value]
        case "kind" if (form := value.removeprefix("urn:lantai:").removesuffix(":1")) in FORMS:
            text = FORMS[form]
        case "outcome" | "reason" if value in _RESULTS:
            text = _RESULTS[value]
        case _:
            return value
    return f"{text.zh} · {text.en}"
