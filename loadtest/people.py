"""Fictitious people of the delta and their records, and the ways a question about them goes wrong.

Everything here is drawn, nobody exists. The errors come from tables of this file and from the libraries OpenCC and
pypinyin, never from the folding tables that the index uses: what one author puts into both would find itself.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

HEADINGS = (
    "archival_code", "title", "category", "name", "id_number", "birth_date", "other_name", "other_id_number",
    "event_date", "place", "certificate_no", "open_status", "digitised",
)  # fmt: skip

# shares of 100,000 people, from the frequencies of surnames that are public knowledge, rounded
_SURNAMES = """王7250 李7190 张6830 刘5390 陈4530 杨3080 黄2230 赵2140 吴2050 周1980 徐1670 孙1540 马1290 朱1260 胡1310
郭1130 何1170 林1160 罗860 高1020 郑930 梁840 谢720 宋700 唐650 许660 韩680 邓620 冯640 曹600 彭490 曾580 肖560 田520
董510 潘450 袁540 蔡460 蒋470 余410 于480 杜470 叶460 程460 魏450 苏480 吕450 丁420 任410 卢480 姚400 沈500 钟400 姜390
崔380 谭380 陆400 范360 汪370 廖340 石340 金390 韦330 贾320 夏310 付310 方310 邹300 熊290 白280 孟280 秦270 邱290 侯270
江270 尹260 薛260 闫250 段250 雷250 龙230 黎240 史230 陶220 贺220 毛220 郝210 顾260 龚210 邵210 万200 覃200 武200 钱250
戴210 严200 莫190 孔180 向180 常180 俞170 章170 施190 盛120 屠90 褚80 宓40 計30 闻60 费70 柏50 单60 仇50 查60 翟80 郁70
欧阳60 诸葛20 司徒15 上官10"""
_MALE = "伟强军勇杰涛明超波辉刚健平鹏飞斌浩峰亮华建国志林海云龙祥荣生根宝兴发福贵财良才忠义德仁孝先清泉水木金火土洪江河山松柏森树春夏秋冬东南西北中正立文武学礼永长寿康宁安乐成功利达富有余来顺进步新民主革命卫红旗援朝跃超英庆胜利坤乾震雷风雨雪霖霆钧铭锋钢铁铜锡银鑫炳炎焕煜烽灿灵杏培均坚城墙垒基圣尧舜禹汤周秦汉唐宋元彪虎豹骏骥麒麟鹤鸿鹄雁翔翼羽习"
_FEMALE = "芳娟敏静秀英丽艳娜红玲霞燕萍洁云梅兰菊莲桂花香珍珠宝玉琴瑟琪瑶璐琳珊瑚翠翡碧青蓝紫丹彤彩虹霓裳绣锦纹绢纱绮绫罗秋月夜星辰露霜雪冰凌清波涟漪沁芬芝苹茵茹荷莉莎菲菁萱葵蓉蕾薇蔓妹姐娘姑娥娣婷婉婵媛嫣嫦惠慧淑贤贞善美好佳佩佑俊倩倪偲仙巧妙爱凤凰莺鹃雁鹂燕蝶"
_NEUTRAL = "文明华平安祥瑞和晓小大少世维家传绍承继光耀宗祖嗣炜之以如若若其思念恩怀忆望希冀玮珏瑜瑾璋琮珉珂珩珺珞一二三四五六七八九十百千万子孝廷朝宇宙天地日月星晨旭昊昕晖映晴朗"
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
_BLOCK = 10_000
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643


@dataclass(frozen=True, slots=True)
class Truth:
    """One person of one record, as they really are."""

    code: str
    category: str
    name: str
    other_name: str
    birth_year: int
    event_year: int
    place: str
    id_number: str


def _surnames() -> tuple[list[str], np.ndarray]:
    names, weights = [], []
    for word in _SURNAMES.split():
        cut = next(place for place, char in enumerate(word) if char.isascii())
        names.append(word[:cut])
        weights.append(int(word[cut:]))
    shares = np.array(weights, dtype=float)
    return names, shares / shares.sum()


def _skewed(size: int) -> np.ndarray:
    """Shares that fall like given-name characters do: the first few are very common."""
    shares = 1.0 / (np.arange(size) + 4.0) ** 0.8
    return shares / shares.sum()


class _Names:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._surnames, self._surname_shares = _surnames()
        shuffle = Random(11)
        self._pools = []
        for own in (_MALE, _FEMALE):
            chars = sorted(set(own + _NEUTRAL))
            shuffle.shuffle(chars)
            self._pools.append((chars, _skewed(len(chars))))

    def draw(self, count: int, sex: int) -> list[str]:
        rng = self._rng
        chars, shares = self._pools[sex]
        surnames = rng.choice(len(self._surnames), count, p=self._surname_shares)
        first = rng.choice(len(chars), count, p=shares)
        second = rng.choice(len(chars), count, p=shares)
        single = rng.random(count) < 0.18
        return [
            self._surnames[s] + chars[a] + ("" if one else chars[b])
            for s, a, b, one in zip(
                surnames.tolist(), first.tolist(), second.tolist(), single.tolist(), strict=True
            )
        ]


def check_digit(body: str) -> str:
    """The last place of an 18-digit identity number (GB 11643)."""
    return "10X98765432"[
        sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True)) % 11
    ]


def _numbers(
    rng: np.random.Generator, places: list[str], births: list[tuple[int, int, int]], sex: int
) -> list[str]:
    """18-digit numbers, in 15 digits for a quarter, none for as many more."""
    kinds = rng.random(len(places))
    orders = (rng.integers(0, 500, len(places)) * 2 + (1 - sex)).tolist()
    numbers = []
    for place, (year, month, day), order, kind in zip(places, births, orders, kinds.tolist(), strict=True):
        if kind < 0.287:
            numbers.append("")
        elif kind < 0.521 and year < 2000:
            numbers.append(f"{place}{year % 100:02d}{month:02d}{day:02d}{order:03d}")
        else:
            body = f"{place}{year}{month:02d}{day:02d}{order:03d}"
            numbers.append(body + check_digit(body))
    return numbers


def records(count: int, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """Rows under HEADINGS, the same for the same seed."""
    rng = np.random.default_rng(seed)
    names = _Names(rng)
    codes = list(PLACES)
    shares = np.array([share for _key, share, _first, _last in _CATEGORIES], dtype=float)
    shares /= shares.sum()
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        men, women = names.draw(size, 0), names.draw(size, 1)
        kinds = rng.choice(len(_CATEGORIES), size, p=shares).tolist()
        years = rng.random(size).tolist()
        ages = rng.integers(19, 45, size).tolist()
        months, days = rng.integers(1, 13, size).tolist(), rng.integers(1, 29, size).tolist()
        ms, ds = rng.integers(1, 13, size).tolist(), rng.integers(1, 29, size).tolist()
        homes = [codes[one] for one in rng.integers(0, len(codes), size).tolist()]
        sexes = rng.integers(0, 2, size).tolist()
        units = rng.integers(0, len(_UNITS), size).tolist()
        scanned = (rng.random(size) < 0.7).tolist()
        events = []
        for kind, share in zip(kinds, years, strict=True):
            _key, _share, first, last = _CATEGORIES[kind]
            events.append(first + int(share * (last - first + 1)))
        births = [
            (event - (age if kind != 2 else age % 8 + 7), m, d)
            for event, age, kind, m, d in zip(events, ages, kinds, ms, ds, strict=True)
        ]
        his, hers = _numbers(rng, homes, births, 0), _numbers(rng, homes, births, 1)
        for n in range(size):
            category = _CATEGORIES[kinds[n]][0]
            number = start + n + 1
            two = category in _TWO_PEOPLE
            sex = sexes[n]
            year, month, day = births[n]
            name, other = (women[n], men[n]) if sex else (men[n], women[n])
            yield (
                f"J{homes[n][2:]}-{kinds[n] + 10:03d}-{number // 200 % 10000:04d}-{number:07d}",
                f"{name}{_TITLES[category]}",
                category,
                name,
                hers[n] if sex else his[n],
                f"{year}-{month:02d}-{day:02d}",
                other if two else "",
                (his[n] if sex else hers[n]) if two else "",
                f"{events[n]}-{months[n]:02d}-{days[n]:02d}",
                f"{PLACES[homes[n]]}{_UNITS[units[n]]}",
                f"{homes[n]}{events[n]}{number % 100000:05d}" if two else "",
                "控制" if two else "开放",
                "是" if scanned[n] else "否",
            )


def write_csv(path: Path, count: int, seed: int = 0) -> None:
    """A clean catalogue of `count` rows, UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADINGS)
        writer.writerows(records(count, seed))


def truths(count: int, seed: int, wanted: int) -> list[Truth]:
    """`wanted` people spread over the rows of `records(count, seed)`."""
    step = max(1, count // wanted)
    found = []
    for number, row in enumerate(records(count, seed)):
        if number % step == 0 and len(found) < wanted:
            found.append(
                Truth(
                    row[0],
                    row[2],
                    row[3],
                    row[6],
                    int(row[5][:4]),
                    int(row[8][:4]),
                    next(code for code, name in PLACES.items() if row[9].startswith(name)),
                    row[4],
                )
            )
    return found


# Errors --------------------------------------------------------------------------------------------------------

SINGLE_ERRORS = (
    "clean", "traditional", "homophone", "accent", "look_alike", "random_char", "missing", "added", "swapped",
    "surname", "year_3_4", "year_7_9", "wrong_place", "id_15", "id_typo", "id_swap",
)  # fmt: skip

_LOOK_ALIKE = [
    "己已巳", "未末", "土士", "晴睛", "辰晨", "候侯", "冶治", "刁刀", "丐丏", "汆氽", "祟崇", "戊戌戍", "毫亳", "茶荼",
    "鸟乌", "今令", "天夭", "干千于", "历厉", "住佳", "幕慕墓", "拔拨", "折拆", "侍待", "徒徙", "淡谈", "锋烽峰", "铭络",
    "琳淋", "梅海悔", "娟涓捐", "明朋", "芳苦", "英央", "玲铃", "兰三", "建健", "平乎", "林材", "华毕", "志态", "波坡",
    "伟纬", "杰灿", "强弹", "军车", "刚钢", "秀季", "红江", "燕蒸", "静净", "敏每", "萍苹", "洁浩", "云去", "根恨", "荣茶",
    "福副", "贵贡", "财材", "忠患", "德得", "清请", "泉帛", "洪供", "松忪", "森淼", "春舂", "冬各", "立位", "学字", "永水",
    "长张", "成戍", "功攻", "利刊", "进迸", "步涉", "新析", "民氏", "庆床", "坤绅", "雷霜", "雨两", "银很", "铁跌",
]  # fmt: skip
_SOUND_SHIFTS = (
    ("zh", "z"), ("ch", "c"), ("sh", "s"), ("ang", "an"), ("eng", "en"), ("ing", "in"), ("l", "n"), ("huang", "wang"),
    ("hu", "wu"),
)  # fmt: skip
_SURNAME_SLIPS = (
    "陈程", "王汪", "王黄", "徐许", "于余", "吴胡", "张章", "李黎", "周邹", "朱诸", "沈盛", "金靳", "林凌", "付傅", "肖萧",
    "闫阎", "蒋姜", "丁邓", "钱全", "孙宋", "邱仇", "陆卢", "方房", "何贺", "杨阳", "石施", "严颜", "费裴", "曹赵", "俞余",
)  # fmt: skip


@lru_cache(1)
def _by_sound() -> dict[str, list[str]]:
    """Pinyin without tone -> the common characters read so (GB 2312 level 1, by pypinyin)."""
    from pypinyin import Style, pinyin

    found: dict[str, list[str]] = {}
    for high in range(0xB0, 0xD8):
        for low in range(0xA1, 0xFF):
            try:
                char = bytes((high, low)).decode("gb2312")
            except UnicodeDecodeError:
                continue
            found.setdefault(pinyin(char, style=Style.NORMAL)[0][0], []).append(char)
    return found


@lru_cache(8192)
def _sound(char: str) -> str:
    from pypinyin import Style, pinyin

    return str(pinyin(char, style=Style.NORMAL)[0][0])


@lru_cache(1)
def _to_traditional() -> object:
    from opencc import OpenCC

    return OpenCC("s2t")


def _given(name: str) -> int:
    """Where the given name begins."""
    return 2 if name[:2] in {"欧阳", "诸葛", "司徒", "上官"} else 1


def _replace(name: str, place: int, char: str) -> str:
    return name[:place] + char + name[place + 1 :]


def misspell(name: str, kind: str, random: Random) -> str | None:
    """The name with one error of a kind, None when this name can not have it."""
    first = _given(name)
    place = random.randrange(first, len(name))
    char = name[place]
    match kind:
        case "traditional":
            other: str = _to_traditional().convert(name)  # type: ignore[attr-defined]
            return other if other != name else None
        case "homophone":
            return _other(name, place, _by_sound().get(_sound(char), []), random)
        case "accent":
            sound = _sound(char)
            shifted = [
                sound.replace(one, two, 1) for a, b in _SOUND_SHIFTS for one, two in ((a, b), (b, a))
                if (sound.startswith(one) if len(one) < 3 or one == "huang" else sound.endswith(one))
            ]  # fmt: skip
            pool = [char for one in shifted if one != sound for char in _by_sound().get(one, [])]
            return _other(name, place, pool, random)
        case "look_alike":
            return _other(
                name, place, [one for group in _LOOK_ALIKE if char in group for one in group], random
            )
        case "random_char":
            return _other(name, place, random.choice(list(_by_sound().values())), random)
        case "missing":
            return name[:place] + name[place + 1 :] if len(name) - first > 1 else None
        case "added":
            return name + random.choice(_NEUTRAL) if len(name) - first == 1 else None
        case "swapped":
            swapped = name[:first] + name[first:][::-1]
            return swapped if swapped != name else None
        case "surname":
            pool = [one for pair in _SURNAME_SLIPS if name[0] in pair for one in pair]
            return _other(name, 0, pool, random)
        case _:
            return name


def _other(name: str, place: int, pool: list[str], random: Random) -> str | None:
    others = [char for char in pool if char != name[place]]
    return _replace(name, place, random.choice(others)) if others else None


def slip_number(number: str, kind: str, random: Random) -> str | None:
    """An 18-digit number in 15 digits, with one wrong digit, or with two neighbours exchanged; None when it can not be."""
    if len(number) != 18:
        return None
    match kind:
        case "id_15":
            return number[:6] + number[8:17] if number[6:8] == "19" else None
        case "id_typo":
            place = random.randrange(6, 17)
            digit = random.choice([one for one in "0123456789" if one != number[place]])
            return _replace(number, place, digit)
        case _:
            place = random.randrange(6, 16)
            if number[place] == number[place + 1]:
                return None
            return number[:place] + number[place + 1] + number[place] + number[place + 2 :]
