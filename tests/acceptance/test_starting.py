"""Ordinary mistakes in settings, seen as an operator sees them: one line that names the setting, and exit status 1."""

import socket
import subprocess
import sys

import pytest

from loadtest.authorities.tls import Authority
from node_agent.index.folder import DataFolder

pytestmark = pytest.mark.slow

ARCHIVE = 'archive = "330483"\nname = "桐乡市档案馆"\n'
PLAIN = "plaintext_on_loopback = true\n"
ROSTER = 'epoch = 1\n[[archive]]\ncode = "330483"\nname = "桐乡市档案馆"\naddress = "127.0.0.1:1"\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "roster.toml").write_text(ROSTER, "utf-8")
    authority = Authority(tmp_path)
    authority.issue("node", "330483")
    authority.issue("gateway", "gateway")
    (tmp_path / "garbage.pem").write_text("garbage")
    return tmp_path


@pytest.fixture
def taken():
    """An address where somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


def refused(*command) -> str:
    """The one line a command that does not start says."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # its log is JSON
    assert len(told) == 1, done.stderr
    return told[0]


def agent(folder, settings: str) -> str:
    (folder / "archive.toml").write_text(ARCHIVE + settings, "utf-8")
    told = refused("node_agent", "run", "--data", folder)
    assert told.startswith("lantai-node run: ")
    return told.removeprefix("lantai-node run: ")


def gateway(folder, settings: str, command: str = "run") -> str:
    config = folder / "gateway.toml"
    config.write_text(f"port = 0\n{settings}", "utf-8")
    told = refused("gateway", command, "--config", config)
    assert told.startswith(f"lantai-gateway {command}: ")
    return told.removeprefix(f"lantai-gateway {command}: ")


def tls(ca: str, certificate: str, key: str) -> str:
    return f'ca = "{ca}"\ncertificate = "{certificate}"\nkey = "{key}"\n'


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_gateway_without_usable_tls_towards_archives_does_not_start(folder, command):
    assert "请设置 ca, certificate, key" in gateway(folder, "", command)
    told = gateway(folder, tls("ca.pem", "gateway-gateway.pem", "node-330483.key"), command)
    assert told.startswith("key: 私钥与证书不成一对 · the key is not the certificate's")
    assert str(folder / "node-330483.key") in told


@pytest.mark.parametrize("where", ['listen = "127.0.0.1:0"\n', 'gateways = ["127.0.0.1:1"]\n'])
def test_an_agent_without_usable_tls_does_not_start(folder, where):
    told = agent(folder, where + tls("ca.pem", "garbage.pem", "node-330483.key"))
    assert told == f"certificate: 不是 PEM 证书 · no PEM certificate: {folder / 'garbage.pem'}"


def test_a_second_agent_over_a_data_folder_does_not_start_and_leaves_the_first_alone(folder):
    settings = PLAIN + 'gateways = ["127.0.0.1:1"]\n'
    (folder / "archive.toml").write_text(ARCHIVE + settings, "utf-8")
    words = [sys.executable, "-m", "node_agent", "run", "--data", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        try:
            assert any("agent.serving" in line for line in first.stdout)
            told = agent(folder, settings)
            assert (
                told == f"{folder}: 已有节点代理在此数据目录上运行 · another agent runs over this data folder"
            )
            assert first.poll() is None
        finally:
            first.kill()
    with DataFolder(folder).agent_lock():  # a killed one holds nothing
        pass


def test_an_address_where_somebody_else_listens_is_named_with_its_setting(folder, taken):
    def told(setting):
        return f"{setting}: 无法监听 · can not listen on {taken}: "

    assert agent(folder, f'{PLAIN}listen = "{taken}"\n').startswith(told("listen"))
    for setting in ("metrics_listen", "desk_listen", "health_listen"):
        text = agent(folder, f'{PLAIN}listen = "127.0.0.1:0"\n{setting} = "{taken}"\n')
        assert text.startswith(told(setting))
    assert gateway(folder, f'{PLAIN}link_listen = "{taken}"\n').startswith(told("link_listen"))
    (folder / "gateway.toml").unlink()
    host, port = taken.split(":")
    config = folder / "gateway.toml"
    config.write_text(f'{PLAIN}host = "{host}"\nport = {port}\n')
    assert told("host, port") in refused("gateway", "run", "--config", config)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_trust_list_that_is_none_is_refused_with_its_file(folder, command):
    told = gateway(folder, f'{PLAIN}trust_list = "garbage.pem"\n', command)
    assert told.startswith("trust_list: 信任名录无效 · ")
    assert str(folder / "garbage.pem") in told


def test_a_data_folder_that_can_not_be_written_is_named(folder):
    (folder / "desk.sqlite").mkdir()  # root may write into any folder, whatever its mode
    told = agent(folder, f'{PLAIN}listen = "127.0.0.1:0"\n')
    assert told.startswith(f"{folder}: ")
    assert "unable to open database file" in told
