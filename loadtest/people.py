"""Fictitious people of the delta and their catalogue rows: everybody here is drawn, nobody exists.

The same count and seed give the same rows, block by block, so that a single person can be drawn again without drawing
the others. How questions about them go wrong is `loadtest/slips.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADINGS = (
    "archival_code", "title", "category", "name", "id_number", "birth_date", "other_name", "other_id_number",
    "event_date", "place", "certificate_no", "open_status", "digitised",
)  # fmt: skip
Row = tuple[str, ...]
"""One cell for each of HEADINGS."""

# people of each surname in 100,000, from the shares that are public knowledge, rounded; delta surnames raised a little
_SURNAMES = """王7250 李7190 张6830 刘5390 陈4530 杨3080 黄2230 赵2140 吴2050 周1980 徐1670 孙1540 马1290 朱1260 胡1310
郭1130 何1170 林1160 罗860 高1020 郑930 梁840 谢720 宋700 唐650 许660 韩680 邓620 冯640 曹600 彭490 曾580 肖560 田520
董510 潘450 袁540 蔡460 蒋470 余410 于480 杜470 叶460 程460 魏450 苏480 吕450 丁420 任410 卢480 姚400 沈500 钟400 姜390
崔380 谭380 陆400 范360 汪370 廖340 石340 金390 韦330 贾320 夏310 付210 傅180 方310 邹300 熊290 白280 孟280 秦270 邱290
侯270 江270 尹260 薛260 闫150 阎130 段250 雷250 龙230 黎240 史230 陶220 贺220 毛220 郝210 顾260 龚210 邵210 万200 覃200
武200 钱250 戴210 严200 莫190 孔180 向180 常180 俞170 章170 施190 盛120 屠90 褚80 宓40 计30 闻60 费70 柏50 单60 仇50
查60 翟80 郁70 萧60 凌90 殷80 虞70 倪110 华90 裘30 诸40 戚60 茅40 祝80 柴60 应50 欧阳60 诸葛20 司徒15 上官10"""

# characters of given names, the commonest first; the tails are drawn ever more seldom
_ALONE = (
    "伟强勇军杰涛明超波辉刚健平鹏飞斌浩峰亮建磊鑫宇凯俊帆毅龙林洋东海晨文华坤雷宁松成志云旭昊江根良泉",
    "芳娟敏静丽艳娜霞燕玲红萍洁梅英琴婷颖莉雪慧倩佳琳蕾兰莹琼璐珍菊凤岚瑛薇蓉欢颜琪瑶月云蓓英娥翠",
)
_FIRST = (
    "建志国文海永春晓小德金明家俊振世宝兴玉长学光福荣树庆红新正云成少林立仁伯阿根水大松祥忠维卫继天元士耀景炳",
    "秀丽玉晓小美红春凤桂金爱海雪文月素雅彩惠慧淑亚燕梅兰英翠建云彩阿巧宝根水冬秋佩如思冰嘉婉瑞香静明月",
)
_SECOND = (
    "明华平国军强林生伟峰荣良民清祥根龙文东海成春兴福波辉忠康法法泉庆江松德元昌飞杰宏斌勇才利宝发富余土坤浩",
    "英芳华珍兰萍琴梅娟玲凤红珠仙宝妹花霞丽敏燕娣芬香云琪静秀莲菊佳雯怡洁娥琳慧莉倩婷蓉妍瑶雪月金媛巧",
)
_TAIL = (
    "彪骏骥麒麟鸿鹄翔翼羽钧铭锋钢铁铜锡银炎焕煜烽灿培均坚圣尧舜禹汤汉岳岩峻岭泽涵润沛滨洲潮津源浚淳渊楠桐柏枫桦栋梁森植蔚蓬苏葆莘蔼儒贤智勤俭恭让信义礼廉孝悌敬诚笃厚朴纯质彬雅逸凡超卓越群众和顺泰安康宁静远深高低",
    "瑟琨珊瑚碧青蓝紫丹彤虹霓裳绣锦纹绢纱绮绫罗夜星辰露霜凌涟漪沁苹茵茹荷莎菲菁萱葵蔓姐姑婵嫣嫦善好佑俏仪偲妙鹃雁蝶舒悦欣愉晴岚韵馨芷若芸荔芹芝茜荟蕙薇蘅槿榕樱桃杏梨棠柳杨絮飘盈盼眉黛姣姗娅婕婧媚嬿",
)
_SHARED = (
    "一三五七九百千万子朝宙地日晖映朗祖嗣炜之以思念恩怀望希冀玮珏瑜瑾璋琮珉珂珩尚可达仲叔季孟维绍承传耀宗守"
)

_UNITS = ("人民政府", "民政局", "公社", "街道办事处", "镇人民政府", "乡人民政府")
PLACES = {
    "330402": "南湖区", "330411": "秀洲区", "330421": "嘉善县", "330424": "海盐县", "330481": "海宁市",
    "330482": "平湖市", "330483": "桐乡市", "330523": "安吉县", "330521": "德清县", "330522": "长兴县",
}  # fmt: skip
_CATEGORIES = (
    ("marriage", 38, 1950, 2010), ("divorce", 6, 1955, 2010), ("student", 11, 1950, 2005),
    ("recruitment", 9, 1950, 1995), ("one_child", 8, 1979, 2015), ("rural_house", 10, 1982, 2010),
    ("land_contract", 7, 1982, 2000), ("zhiqing", 5, 1958, 1979), ("demobilized", 3, 1955, 2010),
    ("hukou_move", 3, 1955, 2005),
)  # fmt: skip
_TITLES = {
    "marriage": "结婚登记申请书", "divorce": "离婚登记材料", "student": "学生学籍卡", "recruitment": "招工录用审批表",
    "one_child": "独生子女父母光荣证申领表", "rural_house": "农村私人建房用地呈报表", "land_contract": "农村土地承包合同",
    "zhiqing": "知识青年上山下乡登记表", "demobilized": "退伍军人登记表", "hukou_move": "户口迁移证存根",
}  # fmt: skip
_TWO_PEOPLE = frozenset({"marriage", "divorce"})
_STUDENT = 2  # whose place in _CATEGORIES: a child, not a grown-up
_BLOCK = 5_000  # rows drawn from one random stream
_SINGLE = 0.15  # given names of one character
_NO_NUMBER, _SHORT_NUMBER = (
    0.287,
    0.234,
)  # shares of rows without an identity number, and with one of 15 digits
_ID_WEIGHTS = np.array((7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))  # GB 11643
_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True)
class Truth:
    """One person of one record, as they really are. `id_number` is as in the row: 18 digits, 15 digits or none."""

    code: str
    category: str
    name: str
    other_name: str
    birth_year: int
    event_year: int
    place: str
    id_number: str


def check_digit(body: str) -> str:
    """The last place of an 18-digit identity number, from the 17 before it (GB 11643)."""
    return _CHECKS[
        sum(int(digit) * int(weight) for digit, weight in zip(body, _ID_WEIGHTS, strict=True)) % 11
    ]


def _shares(size: int, flatness: float) -> NDArray[np.float64]:
    """Shares that fall like those of name characters do; the larger `flatness`, the less common the commonest."""
    shares: NDArray[np.float64] = 1.0 / (np.arange(size, dtype=np.float64) + flatness)
    return shares / float(shares.sum())


@lru_cache(1)
def _surnames() -> tuple[list[str], NDArray[np.float64]]:
    names, people = [], []
    for word in _SURNAMES.split():
        cut = next(place for place, char in enumerate(word) if char.isascii())
        names.append(word[:cut])
        people.append(int(word[cut:]))
    shares = np.array(people, dtype=float)
    return names, np.cumsum(shares / shares.sum())


@lru_cache(6)
def _characters(sex: int, position: str) -> tuple[list[str], NDArray[np.float64]]:
    """The characters of a position ("alone", "first", "second") and their cumulated shares."""
    own = {"alone": _ALONE, "first": _FIRST, "second": _SECOND}[position][sex]
    chars = list(dict.fromkeys(own if position == "alone" else own + _TAIL[sex] + _SHARED))
    if position == "alone":
        chars += [char for char in dict.fromkeys(_TAIL[sex]) if char not in chars]
    return chars, np.cumsum(_shares(len(chars), 6.0 if position == "alone" else 9.0))


def _draw(rng: np.random.Generator, cumulated: NDArray[np.float64], count: int) -> list[int]:
    found: list[int] = np.minimum(np.searchsorted(cumulated, rng.random(count)), len(cumulated) - 1).tolist()
    return found


def _names(rng: np.random.Generator, count: int, sex: int) -> list[str]:
    surnames, cumulated = _surnames()
    family = _draw(rng, cumulated, count)
    alone, first, second = (_characters(sex, one) for one in ("alone", "first", "second"))
    ones, twos, threes = (_draw(rng, pool[1], count) for pool in (alone, first, second))
    single = (rng.random(count) < _SINGLE).tolist()
    return [
        surnames[f] + (alone[0][a] if one else first[0][b] + second[0][c])
        for f, a, b, c, one in zip(family, ones, twos, threes, single, strict=True)
    ]


def _numbers(
    rng: np.random.Generator, places: NDArray[np.int64], births: NDArray[np.int64], sex: int
) -> list[str]:
    """Identity numbers in the shares of old lists; `births` are yyyymmdd."""
    kinds = rng.random(len(places))
    bodies = places * 10**11 + births * 1000 + rng.integers(0, 498, len(places)) * 2 + (1 - sex)
    digits = bodies[:, None] // 10 ** np.arange(16, -1, -1, dtype=np.int64) % 10
    checks = (digits @ _ID_WEIGHTS % 11).tolist()
    short = (kinds < _NO_NUMBER + _SHORT_NUMBER) & (births < 2000_00_00)
    numbers = []
    for body, check, none, old in zip(
        bodies.tolist(), checks, (kinds < _NO_NUMBER).tolist(), short.tolist(), strict=True
    ):
        if none:
            numbers.append("")
        elif old:
            text = str(body)
            numbers.append(text[:6] + text[8:])
        else:
            numbers.append(f"{body}{_CHECKS[check]}")
    return numbers


def _block(number: int, size: int, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng([seed, number])
    codes = np.array([int(code) for code in PLACES])
    shares = np.cumsum(np.array([share for _key, share, _first, _last in _CATEGORIES]) / 100)
    men, women = _names(rng, size, 0), _names(rng, size, 1)
    kinds = np.array(_draw(rng, shares, size))
    first = np.array([one[2] for one in _CATEGORIES])[kinds]
    last = np.array([one[3] for one in _CATEGORIES])[kinds]
    years = first + (rng.random(size) * (last - first + 1)).astype(np.int64)
    homes = codes[rng.integers(0, len(codes), size)]

    def born() -> NDArray[np.int64]:
        ages = np.where(kinds == _STUDENT, rng.integers(7, 15, size), rng.integers(19, 45, size))
        day: NDArray[np.int64] = (
            (years - ages) * 10000 + rng.integers(1, 13, size) * 100 + rng.integers(1, 29, size)
        )
        return day

    his_birth, her_birth = born(), born()
    his, hers = _numbers(rng, homes, his_birth, 0), _numbers(rng, homes, her_birth, 1)
    days = (years * 10000 + rng.integers(1, 13, size) * 100 + rng.integers(1, 29, size)).tolist()
    sexes = rng.integers(0, 2, size).tolist()
    units = rng.integers(0, len(_UNITS), size).tolist()
    scanned = np.where(rng.random(size) < 0.7, "是", "否").tolist()
    homes, kinds, his_birth, her_birth = (
        homes.tolist(),
        kinds.tolist(),
        his_birth.tolist(),
        her_birth.tolist(),
    )
    for n in range(size):
        home, day, place = str(homes[n]), str(days[n]), number * _BLOCK + n + 1
        category = _CATEGORIES[kinds[n]][0]
        if sexes[n]:
            name, number_of, birth, other, other_number = women[n], hers[n], str(her_birth[n]), men[n], his[n]
        else:
            name, number_of, birth, other, other_number = men[n], his[n], str(his_birth[n]), women[n], hers[n]
        two = category in _TWO_PEOPLE
        yield (
            f"J{home[2:]}-{kinds[n] + 10:03d}-{place // 200 % 10000:04d}-{place:07d}",
            name + _TITLES[category],
            category,
            name,
            number_of,
            f"{birth[:4]}-{birth[4:6]}-{birth[6:]}",
            other if two else "",
            other_number if two else "",
            f"{day[:4]}-{day[4:6]}-{day[6:]}",
            PLACES[home] + _UNITS[units[n]],
            f"{home}{day[:4]}{place % 100000:05d}" if two else "",
            "控制" if two else "开放",
            scanned[n],
        )


def records(count: int, seed: int = 0) -> Iterator[Row]:
    """Rows under HEADINGS, the same for the same seed; the first of a longer run are those of a shorter."""
    for number in range(-(-count // _BLOCK)):
        rows = _block(number, _BLOCK, seed)
        for _n in range(min(_BLOCK, count - number * _BLOCK)):
            yield next(rows)


def write_csv(path: Path, count: int, seed: int = 0) -> None:
    """A clean catalogue of `count` rows, UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADINGS)
        writer.writerows(records(count, seed))


_FROM_A_BLOCK = 50


def truths(count: int, seed: int, wanted: int) -> list[Truth]:
    """At most `wanted` people spread over the rows of `records(count, seed)`, without drawing all of these."""
    blocks = -(-count // _BLOCK)
    chosen = min(blocks, -(-wanted // _FROM_A_BLOCK))
    each = -(-wanted // chosen)
    found: list[Truth] = []
    for one in range(chosen):
        number = one * blocks // chosen
        size = min(_BLOCK, count - number * _BLOCK)
        step = max(1, size // each)
        rows = [row for n, row in enumerate(_block(number, _BLOCK, seed)) if n < size and n % step == 0]
        found += [_truth(row) for row in rows[:each]]
    return found[:wanted]


def _truth(row: Row) -> Truth:
    return Truth(
        code=row[0],
        category=row[2],
        name=row[3],
        other_name=row[6],
        birth_year=int(row[5][:4]),
        event_year=int(row[8][:4]),
        place=next(code for code, name in PLACES.items() if row[9].startswith(name)),
        id_number=row[4],
    )
