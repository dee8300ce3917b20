"""Keys, seals and a trust list for a try-out federation: a throw-away authority seals for every archive.

In service each archive makes its own keys (`lantai-node keys create`) and has its seal certified; here one call does both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from federation.suites.registry import suite
from federation.tlog.note import SecondSigner, Signer
from federation.verify.report import rfc3339
from loadtest.authorities.seals import SealAuthority
from node_agent.certificates import keys as key_files

TRUST_LIST, GATEWAY_LOG_KEY = "trust.json", "gateway-log.key"


def provision(
    folder: Path,
    archives: Sequence[tuple[str, str, Path]],
    *,
    federation: str = "lantai",
    gateway: str = "gateway",
    second_suite: str | None = None,
) -> Path:
    """Make what is missing of keys, and the trust list over `(code, name, data folder)`; its path.

    The gateway's log key is written to `folder`/gateway-log.key. Called again it keeps everything.
    With `second_suite` everybody signs with keys of that suite too, and the list asks for it.
    """
    path = folder / TRUST_LIST
    log_key = folder / GATEWAY_LOG_KEY
    if path.exists() and all((data / "keys" / "seal.pem").exists() for _code, _name, data in archives):
        return path
    authority = SealAuthority("Lantai try-out")
    now = datetime.now(UTC)
    entries = []
    for code, name, data in archives:
        key_files.create(data, code, federation, second_suite=second_suite)
        home = data / key_files.FOLDER
        (home / "seal.key").unlink()
        authority.issue(name).write(home, "seal")
        for number, crl in enumerate(authority.crls()):
            (home / f"issuer-{number}.crl").write_bytes(crl)
        entry = key_files.trust_entry(key_files.load(data), code, name, now)
        if second_suite:  # these archives have issued nothing before
            entry["second_suite"]["from"] = rfc3339(now - timedelta(days=1))
        entries.append(entry)
    if not log_key.exists():
        log_key.touch(0o600)
        log_key.write_text(Signer.generate(f"{federation}.lantai/gateway/{gateway}").secret())
    signer = Signer.parse(log_key.read_text().strip())
    term = {
        "not_before": rfc3339(now - timedelta(days=1)),
        "not_after": rfc3339(now + key_files.LIFETIME),
    }
    logs = [{"id": "log", "use": "log", "suite": "intl-1", "alg": "Ed25519", "vkey": str(signer.key), **term}]
    asked = {}
    if second_suite:
        beside = _second_log_key(log_key, signer.name, second_suite)
        logs.append({
            "id": "log-second", "use": "log", "suite": second_suite, "alg": "SM2", "vkey": str(beside.key), **term
        })  # fmt: skip
        asked = {"second_suite": {"suite": second_suite, "from": term["not_before"]}}
    tree = {
        "version": 1,
        "federation": federation,
        "epoch": 1,
        "issued_at": rfc3339(now),
        "archives": entries,
        "gateways": [{"name": gateway, **asked, "keys": logs}],
        "witnesses": [],
        "tsas": [],
    }
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return path


def _second_log_key(log_key: Path, name: str, second_suite: str) -> SecondSigner:
    """The key beside the gateway's own, where the gateway looks for it; made when there is none."""
    chosen = suite(second_suite)
    path = log_key.with_name(f"{log_key.name}.{second_suite}.pem")
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(chosen.dump(chosen.generate("SM2")))
    return SecondSigner(name, chosen.load(path.read_bytes(), "SM2"))
