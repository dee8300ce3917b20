"""How questions go wrong: one error of a kind in a question about a person.

The tables are of this file, written from what the delta's dialects and handwriting are known to confuse, and from the
libraries OpenCC and pypinyin; never from the folding tables of the index: what one author puts into both finds itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from random import Random
from typing import Protocol

from loadtest.people import PLACES, Truth

# sounds alike in Wu (Shanghai, Jiaxing) or Jianghuai speech, whatever the standard language says
_ACCENTS = [
    "王黄汪", "吴胡何湖", "周邹", "陈程成城承沈", "林凌宁", "徐齐", "孙生森", "曹赵", "朱诸珠猪", "章张", "石食实", "华夏",
    "潘盘", "顾故", "闻文", "冯洪逢", "方房", "傅符", "郁玉", "倪宜", "史水", "书诗思", "根跟", "金京晶", "敏明民", "永荣",
    "仁成神", "祥翔墙", "新心兴", "英音因应", "萍平贫彬", "国郭谷", "福复湖", "惠卫伟会慧", "芹琴勤静", "红洪鸿弘", "正珍真贞",
    "生申升", "刘牛", "李倪", "蓝南", "罗挪", "林宁", "良娘", "兰南", "苏舒", "朝曹", "志自治", "珍曾", "思诗", "三山", "春村",
    "昌仓", "世四", "才柴", "忠宗", "中宗", "银英", "云永", "菊觉", "阿亚", "杏行", "巧敲", "雪薛",
]  # fmt: skip

# one mistaken for the other in handwriting, by a component or by a stroke
_LOOK_ALIKES = [
    "己已巳", "未末朱", "土士", "晴睛清情", "辰晨", "候侯", "冶治", "刁刀", "戊戌戍成", "毫亳豪", "茶荼", "鸟乌", "今令", "天夭夫",
    "干千于", "历厉", "佳住桂", "幕慕墓", "拔拨", "折拆析", "侍待", "徒徙", "淡谈", "锋烽峰", "铭洺", "琳淋", "梅海悔", "娟涓捐鹃",
    "朋明", "英莫央", "玲铃伶冷", "建健键", "平乎", "林材村休", "华毕桦", "波坡披", "伟纬韦炜玮", "强弹", "车东", "刚钢纲", "秀季李",
    "红江", "静净", "敏繁", "萍苹", "洁结浩", "根恨银", "福副幅", "贵责贡", "财材", "忠患", "洪供", "松忪枞", "森淼", "春舂眷",
    "水永冰", "功攻", "利刊", "进迸", "新析", "民氏", "雷霜雪", "凤风凰", "龙尤", "生牛", "兴举", "王玉主", "木本术", "日曰目",
    "文又", "良艮郎", "国图围", "祥样详洋", "月用", "金全", "俊峻骏竣", "杭航抗", "栋冻练", "琪淇祺棋", "瑶遥谣", "莹萤荧", "彬杉",
    "晓浇", "辉挥晖", "丽两", "芳芬", "娜那", "斌武", "勇男", "涛祷", "杰杏", "丹舟", "荷何", "莲连", "珠株", "泉帛", "宝室", "富当",
    "倩情", "妹姝", "婷停", "嘉喜", "琴瑟", "欢欣", "阿河", "仙汕", "康庚", "昌冒", "法泫", "爱受", "景影", "瑞端", "维唯雄", "育盲",
    "陈阵陆", "杨扬汤", "张弦", "徐涂", "吴昊", "周同", "沈沉", "汪注", "钱线", "郑邓", "许诗", "邹郭", "孔扎", "戴载", "施旅",
    "宋宗", "唐康", "潘播", "蒋将", "余佘", "田由甲申", "冯马", "范苑", "姚桃", "高亮", "卢芦户", "胡湖", "袁表", "董重",
]  # fmt: skip

# surnames people have both of: the mother's, the husband's, or one heard for the other
_SURNAME_SLIPS = (
    "陈程", "王汪", "王黄", "徐许", "于余", "吴胡", "张章", "李黎", "周邹", "朱诸", "沈盛", "金靳", "林凌", "蒋姜", "丁邓",
    "钱全", "孙宋", "邱仇", "陆卢", "方房", "何贺", "杨阳", "石施", "严颜", "费裴", "曹赵", "俞余", "高顾", "范方", "夏贾",
)  # fmt: skip

# a surname as households wrote it after 1956 and most of all from 1977 to 1986
_SURNAME_ALIASES = ("傅付", "萧肖", "阎闫", "戴代", "蓝兰", "邱丘", "褚储", "裘求", "詹占", "谭覃")

# older print, clerks' own forms, and forms of 1977, beside the standard character
_OLD_FORMS = (
    "峰峯", "群羣", "坤堃", "哲喆", "升昇", "升陞", "珍珎", "柏栢", "宁甯", "秀琇", "勋勳", "青靑", "清淸", "真眞", "静靜",
    "强強", "强彊", "吴吳", "吕呂", "黄黃", "德悳", "杰傑", "仙僊", "梅楳", "梁樑", "松枩", "岩巖", "姗姍", "彦彥", "户戸",
    "建迠", "雪彐", "颜顔", "麟麐", "幸倖", "佑祐", "泽沢", "广広", "荣栄", "樱桜", "惠恵", "国囯", "为爲", "岳嶽", "秋秌",
    "年秊", "村邨", "周週", "锦錦", "丽麗", "灯燈", "恒恆", "温溫", "卫衞", "郎郞", "花芲", "莲蓮", "信伩", "福褔",
)  # fmt: skip

NAME_ERRORS = (
    "traditional", "old_form", "homophone", "accent", "look_alike", "random_char", "missing", "added", "swapped",
    "given_first", "surname", "surname_alias",
)  # fmt: skip
OTHER_ERRORS = (
    "birth_1_2", "year_3_4", "year_7_9", "wrong_place", "spouse_wrong", "id_15", "id_typo", "id_swap", "only_id_typo",
)  # fmt: skip
SINGLE_ERRORS = ("clean", *NAME_ERRORS, *OTHER_ERRORS)
"""Every kind of error there is, one at a time."""

_COMPOUND = ("欧阳", "诸葛", "司徒", "上官")
_ADDED = "阿小明华文国玉志春德家永云金"


def _groups(rows: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        for char in row:
            found[char] = found.get(char, "") + row.replace(char, "")
    return found


_BY_ACCENT, _BY_SHAPE = _groups(_ACCENTS), _groups(_LOOK_ALIKES)
_BY_SURNAME, _BY_ALIAS = _groups(_SURNAME_SLIPS), _groups(_SURNAME_ALIASES)
_BY_OLD_FORM = {old[0]: "".join(row[1] for row in _OLD_FORMS if row[0] == old[0]) for old in _OLD_FORMS}


@lru_cache(1)
def _by_sound() -> dict[str, list[str]]:
    """Pinyin without tone -> the common characters read so (GB 2312 level 1, by pypinyin)."""
    found: dict[str, list[str]] = {}
    for high in range(0xB0, 0xD8):
        for low in range(0xA1, 0xFF):
            char = bytes((high, low)).decode("gb2312", "ignore")
            if char:
                found.setdefault(_sounds(char)[0], []).append(char)
    return found


@lru_cache(8192)
def _sounds(char: str) -> list[str]:
    """Readings without tone, the usual one first."""
    from pypinyin import Style, pinyin

    return list(dict.fromkeys(pinyin(char, style=Style.NORMAL, heteronym=True)[0]))


class _Converter(Protocol):
    def convert(self, text: str) -> str: ...


@lru_cache(3)
def _converter(name: str) -> _Converter:
    from opencc import OpenCC

    converter: _Converter = OpenCC(name)
    return converter


def _given(name: str) -> int:
    """Where the given name begins."""
    return 2 if name[:2] in _COMPOUND else 1


def _replace(name: str, place: int, char: str) -> str:
    return name[:place] + char + name[place + 1 :]


def _instead(name: str, places: Iterable[int], pools: dict[str, str], random: Random) -> str | None:
    """One character of `places` replaced out of its pool; None when none of them has one."""
    able = [place for place in places if pools.get(name[place])]
    if not able:
        return None
    place = random.choice(able)
    return _replace(name, place, random.choice(pools[name[place]]))


def _homophone(name: str, place: int, random: Random) -> str | None:
    readings = _sounds(name[place])
    # of a character with several readings, now and then the seldom one is heard
    sound = readings[0] if len(readings) == 1 or random.random() < 0.8 else random.choice(readings[1:])
    pool = [char for char in _by_sound().get(sound, []) if char != name[place]]
    return _replace(name, place, random.choice(pool)) if pool else None


def misspell(name: str, kind: str, random: Random) -> str | None:
    """The name with one error of a kind of NAME_ERRORS, None when this name can not have it; else the name as it is."""
    first = _given(name)
    place = random.randrange(first, len(name))
    given = range(first, len(name))
    match kind:
        case "traditional":
            other = _converter(random.choice(("s2t", "s2tw", "s2hk"))).convert(name)
            return other if other != name else None
        case "old_form":
            return _instead(name, range(len(name)), _BY_OLD_FORM, random)
        case "homophone":
            return _homophone(name, place, random)
        case "accent":
            return _instead(name, range(len(name)), _BY_ACCENT, random)
        case "look_alike":
            return _instead(name, range(len(name)), _BY_SHAPE, random)
        case "random_char":
            others = [char for char in random.choice(list(_by_sound().values())) if char != name[place]]
            return _replace(name, place, random.choice(others)) if others else None
        case "missing":
            return name[:place] + name[place + 1 :] if len(given) > 1 else None
        case "added":
            return name + random.choice(_ADDED) if len(given) == 1 else None
        case "swapped":
            swapped = name[:first] + name[first:][::-1]
            return swapped if swapped != name else None
        case "given_first":
            return name[first:] + name[:first]
        case "surname":
            return _instead(name, [0], _BY_SURNAME, random) if first == 1 else None
        case "surname_alias":
            return _instead(name, [0], _BY_ALIAS, random) if first == 1 else None
        case _:
            return name


def slip_number(number: str, kind: str, random: Random) -> str | None:
    """An 18-digit number in 15 digits, with one wrong digit, or with two neighbours exchanged; None when it can not be."""
    if len(number) != 18:
        return None
    match kind:
        case "id_15":
            return number[:6] + number[8:17] if number[6:8] == "19" else None
        case "id_typo":
            place = random.randrange(17)
            return _replace(number, place, random.choice("0123456789".replace(number[place], "")))
        case _:
            place = random.randrange(16)
            if number[place] == number[place + 1]:
                return None
            return number[:place] + number[place + 1] + number[place] + number[place + 2 :]


def misspelt(random: Random, truth: Truth, kind: str) -> dict[str, str] | None:
    """A question about a person with one error of a kind of SINGLE_ERRORS, under the names of the query's fields.

    Asked are the name, the category and the year give or take two; mostly the place, the birth year and the spouse; the
    identity number only where it is what is wrong. None when this person can not be asked after so.
    """
    name = misspell(truth.name, kind, random)
    if name is None:
        return None
    year, birth, place, other = truth.event_year, truth.birth_year, truth.place, truth.other_name
    number: str | None = ""
    match kind:
        case "birth_1_2":
            birth += random.choice((-2, -1, 1, 2))
        case "year_3_4":
            year += random.choice((-1, 1)) * random.randint(
                5, 6
            )  # of a question that says two years around it
        case "year_7_9":
            year += random.choice((-1, 1)) * random.randint(9, 11)
        case "wrong_place":
            place = random.choice([code for code in PLACES if code != place])
        case "spouse_wrong":
            if not other:
                return None
            other = misspell(other, "random_char", random) or other
        case "id_15" | "id_typo" | "id_swap" | "only_id_typo":
            number = slip_number(truth.id_number, kind.removeprefix("only_"), random)
    if number is None:
        return None
    if kind == "only_id_typo":
        return {"category": truth.category, "id_number": number}
    asked = {
        "category": truth.category,
        "name": name,
        "id_number": number,
        "from": str(year - 2),
        "to": str(year + 2),
    }
    if random.random() < 0.8 or kind == "wrong_place":
        asked["place"] = place
    if random.random() < 0.8 or kind == "birth_1_2":
        asked["birth"] = str(birth)
    if random.random() < 0.7 or kind == "spouse_wrong":
        asked["other_name"] = other
    return {field: value for field, value in asked.items() if value}
