"""A fuzzer reads the published contract and tries the running gateway: no server error, and every answer as promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.fleet import Archive, Fleet

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed")
def test_the_running_gateway_keeps_its_contract(tmp_path):
    fleet = Fleet(
        tmp_path / "fleet",
        [Archive("330483", "桐乡市档案馆")],
        gateway_settings={"requests_per_minute": 600_000},
    )
    fleet.prepare()
    fleet.start_gateway()  # its one archive is down: every search still has an answer
    try:
        done = subprocess.run(
            [
                str(SCHEMATHESIS), "run", f"{fleet.gateway_url}/openapi.json",
                "--header", f"Authorization: Bearer {fleet.mint_token()}",
                "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                "--max-examples", "40", "--phases", "examples,coverage,fuzzing", "--seed", "1", "--exclude-path", "/metrics",
                "--exclude-path", "/v1/cases/{id}/events",  # lasts as long as a case, and the fuzzer reads to the end
                "--request-timeout", "15",
            ],
            capture_output=True, text=True, timeout=110, cwd=tmp_path,
        )  # fmt: skip
    finally:
        fleet.stop()
    assert done.returncode == 0, done.stdout[-4000:]
