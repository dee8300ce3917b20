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


@pytest.mark.parametrize("name", ["LANTAI_NODE_LISTN", "lantai_node_listn", "LANTAI_NODE_PORTS"])
def test_a_variable_that_is_no_setting_is_refused_by_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "127.0.0.1:1")
    told = refusal(tmp_path, "")
    assert told.endswith(name)
    assert "no setting" in told


@pytest.mark.parametrize(
    "name", ["LANTAI_NODE_PORT", "LANTAI_NODE_SERVICE_HOST", "LANTAI_NODE_PORT_9443_TCP_ADDR", "LANTAI_NODES"]
)
def test_what_kubernetes_sets_for_a_service_and_other_names_stop_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "tcp://10.0.0.1:9443")
    assert settings(tmp_path, "").archive == "330483"


def test_a_list_in_a_variable_is_json_and_what_is_none_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("LANTAI_NODE_GATEWAYS", "127.0.0.1:5")
    told = refusal(tmp_path, "")
    assert told.startswith("LANTAI_NODE_GATEWAYS:")
    assert "JSON" in told
    assert "TOML" not in told
    monkeypatch.setenv("LANTAI_NODE_GATEWAYS", '["127.0.0.1:5"]')
    assert settings(tmp_path, "").gateways == ("127.0.0.1:5",)


def test_a_wrong_value_names_the_variable_it_came_from_or_else_the_key(tmp_path, monkeypatch):
    assert "wrong: worker_queue:" in refusal(tmp_path, "worker_queue = 0\n")
    monkeypatch.setenv("LANTAI_NODE_WORKER_QUEUE", "-1")
    assert "wrong: LANTAI_NODE_WORKER_QUEUE:" in refusal(tmp_path, "")


@pytest.mark.parametrize("setting", ["listen", "metrics_listen", "health_listen", "desk_listen", "gateways"])
@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:８０", "127.0.0.256:80", "[::g]:80", "http://x:80"]
)
def test_an_address_nothing_could_be_at_is_refused_with_its_setting(tmp_path, setting, address):
    value = f'["{address}"]' if setting == "gateways" else f'"{address}"'
    assert f"{setting}: " in refusal(tmp_path, f"{setting} = {value}\n")


def test_a_port_of_0_is_for_listening_only(tmp_path):
    assert settings(tmp_path, 'listen = "[::1]:0"\n').listen == "[::1]:0"
    assert "端口应在 1 到 65535 之间" in refusal(tmp_path, 'gateways = ["localhost:0"]\n')


def test_what_is_wrong_is_said_in_both_languages_with_its_key(tmp_path):
    (tmp_path / FILE).write_text('worker_queue = 0\nliste = ""\nplaintext_on_loopback = "perhaps"\n', "utf-8")
    with pytest.raises(SettingsError) as refused:
        load(tmp_path)
    told = str(refused.value)
    for one in (
        "archive: 缺少 · missing",
        "worker_queue: 不得小于 1 · must be at least 1",
        "liste: 不认识的键 · unknown key",
        "plaintext_on_loopback: 应为 true 或 false · must be true or false",
    ):
        assert one in told


def test_a_rule_of_several_keys_is_told_without_pydantics_words(tmp_path):
    told = refusal(tmp_path, 'desk_listen = "0.0.0.0:0"\n')
    assert f"{FILE} is wrong: 审核台" in told
    assert "alue error" not in told


def test_a_desks_certificate_that_can_not_be_used_is_named_with_its_file(tmp_path):
    with pytest.raises(SettingsError, match="desk_key: "):
        settings(tmp_path, 'desk_certificate = "c.pem"\n').desk_tls(tmp_path)
    with pytest.raises(SettingsError, match=r"^desk_certificate: .* can not read .*c\.pem"):
        settings(tmp_path, 'desk_certificate = "c.pem"\ndesk_key = "c.key"\n').desk_tls(tmp_path)
