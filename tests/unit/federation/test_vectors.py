"""The code held to tests/vectors/*.json, from which another language could implement the same."""

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from federation import archival_code, identity_number, masking, names
from federation.comparison import NameComparer
from federation.keys import Keyer
from federation.levels import Levels
from federation.query import Query
from federation.scoring import decide, score
from node_agent.catalogue.notation import read_date

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
SIZES = (1_000, 100_000, 1_000_000, 5_000_000)


def load(name):
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def cases(name, part):
    return [pytest.param(case, id=str(number)) for number, case in enumerate(load(name)[part])]


@pytest.fixture(scope="module")
def keyer():
    return Keyer(bytes.fromhex(load("names")["secret"]))


@pytest.mark.parametrize("case", cases("names", "names"))
def test_a_name_has_these_forms_and_keys(keyer, case):
    folded = names.fold(case["name"])
    assert folded == case["folded"]
    assert list(names.syllables(folded)) == case["syllables"]
    assert list(names.fuzzy_syllables(folded)) == case["fuzzy"]
    assert [f"{key:012x}" for key in keyer.name_keys(case["name"])] == case["keys"]


@pytest.mark.parametrize("case", cases("names", "names"))
def test_the_keys_follow_from_the_forms_as_the_vectors_say(case):
    secret = bytes.fromhex(load("names")["secret"])

    def digest(kind, *parts):
        return blake2b((kind + "\x1f".join(parts)).encode(), digest_size=6, key=secret).hexdigest()

    sounds = case["fuzzy"]
    expected = [digest("N", case["folded"]), digest("Z", *sounds)]
    if 2 <= len(sounds) <= 4:
        length = str(len(sounds))
        expected += [
            digest("D", length, *sounds[:place], "*", *sounds[place + 1 :]) for place in range(len(sounds))
        ]
    elif len(sounds) > 4:
        expected += [digest("E", *sounds[:2], "…"), digest("E", "…", *sounds[-2:])]
    assert list(dict.fromkeys(expected)) == case["keys"]


@pytest.mark.parametrize("case", cases("names", "probes"))
def test_a_question_looks_up_these_keys(keyer, case):
    probes = keyer.probes(Query(**case["query"]))
    assert [[one.kind.name.lower(), f"{one.key:012x}", one.year_slack] for one in probes] == case["probes"]


@pytest.mark.parametrize("case", cases("names", "same_sound"))
def test_these_names_meet(keyer, case):
    asked = {probe.key for probe in keyer.probes(Query(name=case["other"]))}
    assert bool(asked & set(keyer.name_keys(case["one"]))) is case["share_a_key"]
    one, other = (names.fuzzy_syllables(names.fold(case[part])) for part in ("one", "other"))
    assert (one == other) is case["same_fuzzy"]


@pytest.mark.parametrize("case", cases("names", "compared"))
def test_two_names_agree_so_far(case):
    level, unequal = NameComparer(case["asked"]).compare(case["held"])
    assert (level.name.lower(), unequal) == (case["level"], case["unequal"])


@pytest.mark.parametrize("case", cases("identity_numbers", "numbers"))
def test_an_identity_number_is_worth_this(case):
    assert identity_number.judge(case["written"]) == case["judgement"]
    assert identity_number.canonical(case["written"]) == case["canonical"]
    assert len(identity_number.repairs(case["written"])) == case["repairs"]


@pytest.mark.parametrize("case", cases("scoring", "scores"))
def test_these_levels_make_this_score_and_decision(case):
    levels = Levels(**case["levels"])
    value = score(levels, case["name_bits"])
    assert value == case["score"]
    assert [decide(value, size, levels).value for size in SIZES] == case["decisions"]


@pytest.mark.parametrize("case", cases("masking", "names"))
def test_this_much_of_a_name_is_shown(case):
    assert masking.mask_name(case["name"]) == case["shown"]


@pytest.mark.parametrize("case", cases("masking", "numbers"))
def test_this_much_of_a_number_is_shown(case):
    assert masking.mask_id(case["number"]) == case["shown"]


@pytest.mark.parametrize("case", cases("archival_codes", "codes"))
def test_an_archival_code_has_this_form(case):
    assert archival_code.comparison_form(case["written"]) == case["form"]


@pytest.mark.parametrize("case", cases("archival_codes", "columns"))
def test_a_code_in_columns_is_joined_so(case):
    assert archival_code.from_columns(*case["columns"]) == case["code"]


@pytest.mark.parametrize("case", cases("dates", "dates"))
def test_a_written_date_is_these_days(case):
    span, finding = read_date(case["written"], case.get("hint", 0))
    assert (None if span is None else [span.first, span.last]) == case["span"]
    assert (None if finding is None else finding.value) == case["finding"]
