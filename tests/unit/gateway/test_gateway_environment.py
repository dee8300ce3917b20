"""What the environment may say of the gateway's settings."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from gateway import __main__ as command
from gateway import settings


@pytest.fixture
def config(tmp_path):
    (tmp_path / "roster.toml").write_text(
        'epoch = 1\n[[archive]]\ncode = "330483"\nname = "b"\naddress = "127.0.0.1:9"\n', "utf-8"
    )
    path = tmp_path / "gateway.toml"
    path.write_text("plaintext_on_loopback = true\n", "utf-8")
    return path


def test_a_variable_that_is_no_setting_is_named_and_stops_nothing(config, monkeypatch, capsys):
    monkeypatch.setenv("GW_TYPO", "1")
    monkeypatch.setenv("GW_PORT", "8081")
    assert command.main(["check", "--config", str(config)]) == 0
    told = capsys.readouterr().err
    assert "GW_TYPO" in told
    assert "GW_PORT" not in told


def test_a_running_gateway_names_it_in_its_log(config):
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so it ends by itself
        env = {**os.environ, "GW_TYPO": "1", "GW_PORT": str(taken.getsockname()[1])}
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "run", "--config", str(config)],
            env=env, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith(b"{")]
    assert [one["variable"] for one in lines if one["action"] == "gateway.unknown_variable"] == ["GW_TYPO"]


def test_a_wrong_value_names_its_variable(config, monkeypatch):
    monkeypatch.setenv("GW_PORT", "http")
    with pytest.raises(settings.SettingsError, match="wrong: GW_PORT: "):
        settings.load(config)
