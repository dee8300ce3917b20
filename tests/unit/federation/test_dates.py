import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.dates import FIRST_YEAR, LAST_YEAR, DateSpan
from federation.reasons import Reason, Refusal


def test_a_year_is_all_its_days():
    assert DateSpan.written("1963") == DateSpan(19630101, 19631231)


def test_a_month_ends_on_its_last_day():
    assert DateSpan.written("1964-02") == DateSpan(19640201, 19640229)


@pytest.mark.parametrize(
    "text", ["1963-02-30", "1963-13", "1963-00-00", "0000", "63", "1963/05", "１９６３", "", "1963-5"]
)
def test_what_is_no_date_is_refused_by_name(text):
    with pytest.raises(Refusal) as caught:
        DateSpan.written(text, "/subject/birth")
    assert caught.value.reason is Reason.IMPOSSIBLE_DATE
    assert caught.value.pointer == "/subject/birth"
    assert not text or text not in str(caught.value)


@given(
    st.dates(
        min_value=__import__("datetime").date(FIRST_YEAR, 1, 1),
        max_value=__import__("datetime").date(LAST_YEAR, 12, 31),
    )
)
def test_a_day_lies_in_its_month_and_year(day):
    span = DateSpan.of_day(day.year, day.month, day.day)
    assert span.is_day
    for wider in (DateSpan.of_month(day.year, day.month), DateSpan.of_year(day.year)):
        assert wider.first <= span.first <= wider.last
