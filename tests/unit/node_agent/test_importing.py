"""What the command of an import knows of the archive it works for."""

from node_agent import settings
from node_agent.importing import _division_of


def test_the_division_is_what_the_settings_of_the_folder_say(tmp_path):
    assert _division_of(tmp_path) == ""
    (tmp_path / settings.FILE).write_text('archive = "330483"\nname = "桐乡市档案馆"\n', "utf-8")
    assert _division_of(tmp_path) == "330483"
