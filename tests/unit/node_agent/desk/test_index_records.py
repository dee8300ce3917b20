"""Which record a decision is about: the one with the code a reviewer gave, else the one the request names."""

import pytest

from federation import mail
from federation.archival_code import comparison_form
from federation.query import Query
from node_agent.desk.records import IndexRecords
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, Part, open_for_import
from node_agent.record import Person, Record, Role
from tests.fakes.desks import dispatch

# as archives write them; the last two share a form
CODES = ("J024.ZY.1985.Y-0001", "J024.ZY.1985.Y-0002", "J024.ZY.1985.Y-0003", "J024·ZY·1985·Y-0003")
SUBJECT = mail.Subject(name="王强")


@pytest.fixture
def index(tmp_path):
    """(records, reference of each code)"""
    rows = [
        Record("marriage", comparison_form(code), code, "", (Person("王强", Role.PARTY),), cells=(code,))
        for code in CODES
    ]
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), rows)])
    lookup = Lookup(tmp_path)
    reference = Disclosure(bytes(32), None).reference
    found = lookup.search(Query(category="marriage", name="王强")).found
    yield IndexRecords(lookup, reference), {one.raw_code: reference(one) for one in found}
    lookup.close()


def test_a_code_a_reviewer_gave_beats_the_record_the_request_names(index):
    records, refs = index
    request = dispatch(ref=refs[CODES[0]], subject=SUBJECT)
    assert records.find(request, CODES[1]).raw_code == CODES[1]
    assert records.find(request, "J024.ZY.1985.Y-9999") is None
    assert records.find(request, CODES[0]).raw_code == CODES[0]
    assert records.find(request, "").raw_code == CODES[0]


@pytest.mark.parametrize(
    "written", [CODES[0], "J024·ZY·1985·Y-0001", "j024．zy．1985．y—０００１", " J024.ZY.1985.Y-0001 "]
)
def test_a_record_is_found_however_its_code_is_written(index, written):
    records, refs = index
    assert records.find(None, written).raw_code == CODES[0]
    assert records.find(dispatch(ref=refs[CODES[1]], subject=SUBJECT), written).raw_code == CODES[0]


def test_of_records_that_share_a_code_the_one_the_request_names_is_meant_or_the_one_written_so(index):
    records, refs = index
    for code in CODES[2:]:
        assert records.find(dispatch(ref=refs[code], subject=SUBJECT), CODES[2]).raw_code == code
        assert records.find(None, code).raw_code == code
    assert records.find(None, "J024.ZY·1985·Y-0003") is None


def test_a_search_by_code_finds_it_however_it_is_written(tmp_path, index):
    lookup = Lookup(tmp_path)
    for written in (CODES[0], "J024·ZY·1985·Y-0001", "j024.zy.1985.y-0001"):
        assert [one.raw_code for one in lookup.search(Query(archival_code=written)).found] == [CODES[0]]
    assert lookup.search(Query(archival_code=" ")).found == ()
    lookup.close()
