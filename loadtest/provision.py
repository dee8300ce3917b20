"""Keys, seals and a trust list for a try-out federation: a throw-away authority seals for every archive.

In service each archive makes its own keys (`lantai-node keys create`) and has its seal certified; here one call does both.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from federation.suites.registry import suite
from federation.tlog.note import SecondSigner, Signer
from federation.verify.report import rfc3339
from gateway.__main__ import main
from gateway.lists.trust import gateway_entry
from loadtest.authorities.seals import SealAuthority
from node_agent.certificates import keys as key_files

TRUST_LIST, GATEWAY_LOG_KEY = "trust.json", "gateway-log.key"
FEDERATION_KEY, FEDERATION_PRIVATE_KEY = "trust-key.json", "trust-key.pem"
"""What the trust list is signed by: the public half as a JWK, and the private one."""


def provision(
    folder: Path,
    archives: Sequence[tuple[str, str, Path]],
    *,
    federation: str = "lantai",
    gateway: str = "gateway",
    second_suite: str | None = None,
) -> Path:
    """Make what is missing of keys, and the signed trust list over `(code, name, data folder)`; its path.

    The gateway's log key is written to `folder`/gateway-log.key. Called again it keeps everything.
    With `second_suite` everybody signs with keys of that suite too, and the list asks for it.
    """
    path = folder / TRUST_LIST
    log_key = folder / GATEWAY_LOG_KEY
    files = (path, folder / FEDERATION_KEY)
    if all(one.exists() for one in files) and all(
        (data / "keys" / "seal.pem").exists() for _code, _name, data in archives
    ):
        return path
    authority = SealAuthority("Lantai try-out")
    now = datetime.now(UTC)
    handed_in = folder / "entries"
    handed_in.mkdir(exist_ok=True)
    for code, name, data in archives:
        key_files.create(data, code, federation, second_suite=second_suite)
        home = data / key_files.FOLDER
        (home / "seal.key").unlink()
        authority.issue(name).write(home, "seal")
        for number, crl in enumerate(authority.crls()):
            (home / f"issuer-{number}.crl").write_bytes(crl)
        _write(handed_in / f"{code}.json", key_files.trust_entry(key_files.load(data), code, name, now))
    if not log_key.exists():
        log_key.touch(0o600)
        log_key.write_text(Signer.generate(f"{federation}.lantai/gateway/{gateway}").secret())
    signer = Signer.parse(log_key.read_text().strip())
    beside = _second_log_key(log_key, signer.name, second_suite) if second_suite else None
    _write(handed_in / f"{gateway}.json", gateway_entry(gateway, signer, beside, now))
    key = folder / FEDERATION_PRIVATE_KEY
    path.unlink(missing_ok=True)
    public = _lantai_gateway("trust", "key", "--key", key, *([] if key.exists() else ["--create"]))
    files[1].write_text(public)
    since = rfc3339(now - timedelta(days=1))  # these archives have issued nothing before
    signing = ["--list", path, "--key", key, *(["--second-suite-from", since] if second_suite else [])]
    entries = [handed_in / f"{code}.json" for code, _name, _data in archives]
    _lantai_gateway("trust", "add", *entries, *signing, "--federation", federation)
    _lantai_gateway("trust", "add", handed_in / f"{gateway}.json", *signing, "--role", "gateway")
    return path


def _write(path: Path, entry: dict[str, Any]) -> None:
    path.write_text(json.dumps(entry, ensure_ascii=False), "utf-8")


def _lantai_gateway(*arguments: object) -> str:
    """What one command said that must do what it is for."""
    said, refused = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(refused):
        status = main([str(one) for one in arguments])
    if status != 0:
        raise RuntimeError(refused.getvalue())
    return said.getvalue()


def _second_log_key(log_key: Path, name: str, second_suite: str) -> SecondSigner:
    """The key beside the gateway's own, where the gateway looks for it; made when there is none."""
    chosen = suite(second_suite)
    path = log_key.with_name(f"{log_key.name}.{second_suite}.pem")
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(chosen.dump(chosen.generate("SM2")))
    return SecondSigner(name, chosen.load(path.read_bytes(), "SM2"))
