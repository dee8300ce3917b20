"""Lists written by hand: a command changes the lines of one row, and no comment of another goes or moves."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lists.files import ListError
from gateway.lists.rows import Rows, toml

TEXT = """\
# the federation's; ask before you change it
epoch = 3  # raised by hand

# the city's
[[archive]]
code = "330400"
name = "嘉兴市档案馆"   # since 2024
tags = ["a",  # why
  "b # no comment"]
# stale_after_s = 600

# 桐乡
[[archive]]
code    = "330483"
name    = '''
桐乡市档案馆'''
dials_in = true

# to come: 海盐
"""


def rows(text: str = TEXT) -> Rows:
    return Rows("archive", "code", text.encode(), Path("list.toml"))


def test_a_row_is_added_at_the_end_and_nothing_else_is_touched():
    added = rows().added({"code": "330424", "name": '海"盐\\\x7f', "dials_in": True})
    assert added.text.startswith(TEXT)
    assert added.named("330424") == {"code": "330424", "name": '海"盐\\\x7f', "dials_in": True}
    assert rows("").added({"code": "1"}).text == '[[archive]]\ncode = "1"\n'
    assert rows('[[archive]]\ncode = "1"').added({"code": "2"}).text == (
        '[[archive]]\ncode = "1"\n\n[[archive]]\ncode = "2"\n'
    )


def test_a_changed_value_keeps_the_comment_after_it_and_how_the_key_was_written():
    changed = rows().changed("330400", {"name": "新", "tags": ["c"], "address": "a:1"})
    assert changed.text == TEXT.replace('"嘉兴市档案馆"', '"新"').replace(
        'tags = ["a",  # why\n  "b # no comment"]\n', 'tags = ["c"]\naddress = "a:1"\n'
    )
    changed = rows().changed("330483", {"name": "新", "dials_in": None})
    assert changed.text == TEXT.replace("'''\n桐乡市档案馆'''", '"新"').replace("dials_in = true\n", "")


def test_the_comment_above_a_row_goes_with_it_and_those_of_others_stay():
    assert rows().removed("330400").text == TEXT.replace(
        TEXT[TEXT.index("# the city's") : TEXT.index("# 桐乡")], ""
    )
    assert rows().removed("330483").text == TEXT.replace(
        TEXT[TEXT.index("# 桐乡") : TEXT.index("# to come")], ""
    )
    assert rows().comments_of("330400") == 2
    kept = '# the file\'s own\n[[archive]]\ncode = "1"\n'  # right above a row, but at the very top
    assert rows(kept).removed("1").text == "# the file's own\n"


def test_a_key_above_all_rows_is_changed_where_it_stands_or_written_there():
    assert rows().with_top("epoch", 4).text == TEXT.replace("epoch = 3", "epoch = 4")
    assert rows("# mine\n\n# its\n[[archive]]\n").with_top("epoch", 1).text == (
        "# mine\n\nepoch = 1\n# its\n[[archive]]\n"
    )


def test_the_ends_of_lines_stay_as_they_were():
    text = TEXT.replace("\n", "\r\n")
    added = rows(text).added({"code": "1"}).changed("330400", {"name": "新"}).with_top("epoch", 4).text
    assert added.count("\n") == added.count("\r\n") == text.count("\n") + 3


@pytest.mark.parametrize(
    "text",
    [
        'archive = [{code = "1"}]\n',
        'note = """\n[[archive]]\n"""\n[[archive]]\ncode = "1"\n',
        '[[archive]]\ncode = "1"\nname = "x"\n[archive.more]\na = 1\n',
        '[["archive"]]\ncode = "1"\n',
    ],
)
def test_what_is_written_in_an_unusual_way_is_left_to_people(text):
    with pytest.raises(ListError, match="change it by hand"):
        rows(text).changed("1", {"more": {"a": 2}})


def test_keys_with_dots_and_tables_below_a_row_are_understood():
    dotted = '[[archive]]\ncode = "1"\njwk.kty = "EC" # one\nscope = "search"\njwk.crv = "P-256"\n[archive.more]\na = 1\n'
    changed = rows(dotted).changed("1", {"jwk": {"kty": "OKP"}, "scope": None, "name": "x"})
    assert changed.text == (
        '[[archive]]\ncode = "1"\njwk = {kty = "OKP"} # one\nname = "x"\n[archive.more]\na = 1\n'
    )
    assert rows(dotted).removed("1").text == ""


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("[[archive", "1", "not valid TOML"),
        ("archive = 1\n", "1", "must be"),
        ("[archive]\n", "1", "must be"),
        (TEXT, "330499", "there is no"),
        (2 * '[[archive]]\ncode = "1"\n', "1", "stands there twice"),
    ],
)
def test_a_row_that_can_not_be_told_is_refused(text, name, said):
    with pytest.raises(ListError, match=said):
        rows(text).removed(name)


LINES = st.lists(
    st.sampled_from(["", "#{}", "k{} = 1", 'k{} = """\n#{}\n"""', "k{} = [ #{}\n 1,\n]"]), max_size=5
)


@given(st.lists(LINES, min_size=1, max_size=4), LINES, st.data())
def test_no_change_touches_what_it_does_not_name(parts, top, data):
    count = iter(range(10_000))

    def written(lines):
        return [line.replace("{}", str(next(count))) for line in lines]

    text = ["epoch = 1", *written(line for line in top if "k" not in line)]
    for number, part in enumerate(parts):
        text += ["", "[[archive]]", f'code = "{number}"', *written(part)]
    before = rows("\n".join(text) + "\n")
    name = str(data.draw(st.integers(0, len(parts) - 1)))
    key, value = data.draw(st.sampled_from(list(before.named(name).items())))
    changed = before.changed(name, {key: 7 if key != "code" else value, "new": ["x"]})
    removed = before.removed(name)
    for after in (changed, removed, before.added({"code": "x"}), before.with_top("epoch", 2)):
        assert [row for row in after.rows if row["code"] not in {name, "x"}] == [
            row for row in before.rows if row["code"] != name
        ]
        assert tomllib.loads(after.text) == after.table
    its = _place(before, name)
    others = [
        line for line in (before.text[: its.start] + before.text[its.stop :]).splitlines() if line.strip()
    ]
    for after in (changed, removed):
        left = iter(after.text.splitlines())
        assert all(line in left for line in others), "lines of others, in their order"


def _place(of: Rows, name: str) -> slice:
    span, lines = of._spans()[int(name)], of._lines()
    assert "".join(lines) == of.text
    return slice(len("".join(lines[: span.start])), len("".join(lines[: span.end])))


@given(
    st.recursive(
        st.integers(-(2**53), 2**53) | st.booleans() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_a_value_reads_back(value):
    assert tomllib.loads(f"k = {toml(value)}\n")["k"] == value
