"""What archive.toml may say, and how it is refused."""

import pytest

from node_agent.settings import FILE, NodeSettings, SettingsError, load

LEAST = 'archive = "330483"\nname = "桐乡市档案馆"\n'


def settings(folder, more: str) -> NodeSettings:
    (folder / FILE).write_text(LEAST + more, "utf-8")
    return load(folder)


def refusal(folder, more: str) -> str:
    with pytest.raises(SettingsError) as refused:
        settings(folder, more)
    return str(refused.value)


def test_a_category_nobody_knows_closes_nothing_and_is_refused_by_name(tmp_path):
    told = refusal(tmp_path, 'closed_categories = ["divorce", "mariage"]\n')
    assert "closed_categories" in told
    assert "no such category: mariage;" in told
    assert "没有这样的类别" in told
    assert "marriage, divorce" in told, "what is known is listed"


def test_known_categories_are_closed(tmp_path):
    closed = settings(tmp_path, 'closed_categories = ["divorce", "marriage"]\n').closed_categories
    assert closed == ("divorce", "marriage")
