"""What the environment may say of the gateway's settings."""

from __future__ import annotations

import json

import pytest
import uvloop

from gateway import __main__ as command
from gateway import app, settings, telemetry


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


def test_a_running_gateway_names_it_in_its_log(config, monkeypatch, capsys):
    async def nothing(_settings, _base): ...

    monkeypatch.setenv("GW_TYPO", "1")
    monkeypatch.setattr(app, "run", nothing)
    monkeypatch.setattr(uvloop, "run", lambda work: work.close())
    assert command.main(["run", "--config", str(config)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    named = [one["variable"] for one in lines if one["action"] == "gateway.unknown_variable"]
    assert named == ["GW_TYPO"]
    assert "variable" in telemetry.LOG_FIELDS


def test_a_wrong_value_names_its_variable(config, monkeypatch):
    monkeypatch.setenv("GW_PORT", "http")
    with pytest.raises(settings.SettingsError, match="wrong: GW_PORT: "):
        settings.load(config)
