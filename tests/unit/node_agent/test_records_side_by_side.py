"""Records side by side are the records that went in, in their order."""

from hypothesis import given
from hypothesis import strategies as st

from federation.dates import DateSpan
from node_agent.record import Person, Record, Records, Role, one_by_one, side_by_side


def record(number):
    return Record(
        "marriage",
        f"J{number}",
        f"j {number}",
        "题名" if number % 3 else "",
        (
            Person("王芳", Role.PARTY, "330402198501010021", 19850101, 19850101, ("王小妹",)),
            Person("", Role.CHILD),
        )[: number % 3],
        event=DateSpan(19850101, 19851231) if number % 2 else None,
        place="330402",
        place_text="南湖区",
        certificate_no="1",
        open_status="开放",
        digitised=bool(number % 2),
        is_copy=number % 5 == 0,
        cells=(str(number), "王芳"),
        row=number,
        flags=("no_date",) if number % 4 == 0 else (),
    )


def test_records_come_back_as_they_went_in():
    several = [record(number) for number in range(12)]
    assert list(Records.of(several)) == several
    assert list(Records.of(several).part(3, 7)) == several[3:7]
    assert list(Records.of(several).only([number % 2 == 0 for number in range(12)])) == several[::2]


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 9))
def test_a_stream_is_gathered_in_its_order(sizes, least):
    number, stream, expected = 0, [], []
    for size in sizes:
        some = [record(number + one) for one in range(size)]
        number += size
        expected += some
        stream += [Records.of(some)] if size % 2 else some
    gathered = list(side_by_side(stream, least))
    assert list(one_by_one(gathered)) == list(one_by_one(stream)) == expected
    assert all(len(one) >= least for one in gathered[:-1])
