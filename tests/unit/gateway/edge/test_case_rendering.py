"""A case as its caller sees it, in the caller's language."""

import msgspec
import pytest

from federation.candidate import Candidate
from federation.levels import DateLevel, Levels, NameLevel
from federation.scoring import Decision
from gateway.adapters.locating import _found
from gateway.cases.case import Case, Found, decode_case, encode_case
from gateway.cases.states import State
from gateway.edge.case_rendering import case_body
from gateway.search.merge import Ranked

LEVELS = Levels(name=NameLevel.EXACT, event=DateLevel.YEAR, other_name=NameLevel.HOMOPHONE)
RANKED = Ranked(
    "330483",
    Candidate(ref="r1", category="marriage", masked_name="欧阳*", year=1985, levels=LEVELS),
    21.0,
    Decision.LIKELY,
)


def explained(found, language):
    case = Case("c1", "desk", 1, {}, state=State.AWAITING_SELECTION, candidates=[found])
    [one] = case_body(decode_case(encode_case(case)), None, language)["candidates"]
    return one["explanation"]


@pytest.mark.parametrize(
    ("language", "said"),
    [("zh", "姓名一致；登记年一致；配偶同音"), ("en", "name equal; event same year; spouse sounds the same")],
)
def test_what_agreed_is_told_in_the_callers_language(language, said):
    assert explained(msgspec.convert(_found(RANKED), Found), language) == said


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_an_earlier_version_found_is_told_as_it_was_kept(language):
    assert (
        explained(Found("330483.r1", "330483", 21.0, "likely", explanation="姓名一致"), language)
        == "姓名一致"
    )


@pytest.mark.parametrize("state", [state for state in State if state is not State.EXPIRED])
def test_what_a_desk_wanted_is_told_while_it_waits_for_it(state):
    """It may decide, or pass the case on, without: then nothing is wanted of the caller any more."""
    case = Case("c1", "desk", 1, {}, state=state, wanted=["mandate"])
    assert ("evidence_wanted" in case_body(case, None, "zh")) == (state is State.AWAITING_EVIDENCE)


def test_what_was_not_given_in_time_is_told_with_the_end():
    case = Case("c1", "desk", 1, {}, state=State.EXPIRED, wanted=["mandate"], reason="evidence_not_given")
    assert [one["kind"] for one in case_body(case, None, "zh")["evidence_wanted"]] == ["mandate"]
    case.reason = "not_decided"
    assert "evidence_wanted" not in case_body(case, None, "zh")
