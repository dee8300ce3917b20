"""`lantai-verify`: offline verification by anyone. Exit status 0 valid, 1 invalid, 2 cannot tell.

lantai-verify 证明.pdf
lantai-verify 'AC1:…'            the text a QR reader shows
lantai-verify credential.txt --trust trust.json --status 330483.statuslist --json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from federation.credential.status_list import parse
from federation.process.version import VERSION
from federation.suites.base import PublicKey
from federation.trust import TrustList, federation_key
from federation.verify import facts
from federation.verify.challenge import Challenge
from federation.verify.documents import MOST_BYTES, MOST_TEXT, looks_like_pdf, refused, verify
from federation.verify.report import TEXTS, Report, Result, Verdict, VerificationReason, VerifyError, rfc3339
from federation.verify.status_lists import StatusLists

_MARKS = {Result.PASSED: "✓", Result.FAILED: "✗", Result.UNKNOWN: "?", Result.SKIPPED: "-"}
_VERDICTS = {
    Verdict.VALID: "有效 · valid",
    Verdict.INVALID: "无效 · NOT valid",
    Verdict.UNKNOWN: "无法判定 · cannot tell",
}
CANNOT_TELL = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Verify one file or text and say why."""
    parser = _parser()
    options = parser.parse_args(argv)
    asked = (options.audience, options.nonce, options.purpose)
    if any(one is not None for one in asked) and not (options.audience and options.nonce):
        parser.error(
            "--audience 与 --nonce 须同时给出，--purpose 须与二者同用 · --audience and --nonce come together, --purpose with both"
        )
    try:
        at = _time(options.at)
        trust = TrustList.load(
            _bytes(_trust_path(options.trust), 16 << 20), signed_by=_federation_key(options)
        )
        status = StatusLists(trust, clock=lambda: max(at, datetime.now(UTC)))
    except (OSError, ValueError, VerifyError) as error:
        return _cannot(error, f"{_trust_path(options.trust)}: " if isinstance(error, VerifyError) else "")
    warnings = _add_lists(status, options.status)
    challenge = Challenge(options.audience, options.nonce, options.purpose) if options.nonce else None
    try:
        report = verify(_document(options.document), trust, status, at, challenge=challenge)
    except VerifyError as error:
        report = refused(error.reason, error.detail)
    except OSError as error:
        return _cannot(error)
    if options.json:
        print(json.dumps(report.as_json() | {"at": rfc3339(at), "warnings": warnings}, ensure_ascii=False))
    else:
        _print(report, warnings)
    return report.exit_code


def _add_lists(status: StatusLists, paths: Sequence[Path]) -> list[str]:
    """Take the lists in the order they were signed in; what is said of those that are no good, which are as good as none."""
    dated, warnings = [], []
    for path in paths:
        try:
            token = _status_token(_bytes(path, 16 << 20))
            dated.append((parse(token).issued_at, path, token))
        except (OSError, VerifyError) as error:
            warnings.append(_not_used(path, error))
    for _issued_at, path, token in sorted(dated, key=lambda one: one[0]):
        try:
            status.add(token)
        except VerifyError as error:
            warnings.append(_not_used(path, error))
    return warnings


def _not_used(path: Path, error: Exception) -> str:
    return f"状态名录未采用 · status list not used: {path}: {_words(error)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lantai-verify",
        description="离线核验档案证明：PDF、二维码文本或凭证 / verify a certificate offline: a PDF, the text of its QR code, or a credential",
        epilog="退出码 exit status: 0 有效 valid, 1 无效 invalid, 2 无法判定 cannot tell",
    )
    parser.add_argument(
        "document",
        metavar="FILE|TEXT",
        help="文件、二维码文本或凭证；- 为标准输入 / a file, a text, or - for stdin",
    )
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FILE",
        help="信任名录，默认 $LANTAI_TRUST 或 ./trust.json / the trust list",
    )
    parser.add_argument(
        "--federation-key",
        type=Path,
        metavar="FILE",
        help="联合体公钥（JWK），要求名录由它签名 / the federation's key that must have signed the trust list",
    )
    parser.add_argument(
        "--status",
        type=Path,
        metavar="FILE",
        nargs="+",
        default=[],
        help="状态名录（JWT 或 CWT）/ status lists",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {VERSION}", help="版本 / print the version"
    )
    parser.add_argument("--at", metavar="TIME", help="以此时刻核验，RFC 3339 / verify as at this time")
    parser.add_argument("--audience", metavar="NAME", help="出示对象 / whom it was presented to")
    parser.add_argument("--nonce", help="出示时给出的随机数 / the nonce that was given for the presentation")
    parser.add_argument("--purpose", metavar="CODE", help="用途代码 / the purpose code")
    parser.add_argument("--json", action="store_true", help="输出一个 JSON 对象 / print one JSON object")
    return parser


def _document(argument: str) -> bytes:
    if argument == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    if argument.startswith(("AC1:", "{")) or "~" in argument:
        try:
            if Path(argument).is_file():
                return _read(Path(argument))
        except (OSError, ValueError):
            pass  # too long for a file name: it is the text itself
        return argument.encode("utf-8", "surrogateescape")
    return _read(Path(argument))


def _read(path: Path) -> bytes:
    """A document; what could never be one is refused by its size and first bytes, without reading on."""
    with path.open("rb") as file:
        start = file.read(4_096)
        most = MOST_BYTES if looks_like_pdf(start) else MOST_TEXT
        if os.fstat(file.fileno()).st_size > most:
            raise VerifyError(VerificationReason.TOO_LARGE, f"> {most >> 20} MB")
        return start + file.read(most + 1 - len(start))


def _bytes(path: Path, most: int) -> bytes:
    """At most `most` bytes and one more, by which its reader knows that it is too large."""
    with path.open("rb") as file:
        return file.read(most + 1)


def _federation_key(options: argparse.Namespace) -> PublicKey | None:
    if options.federation_key is None:
        return None
    return federation_key(_bytes(options.federation_key, 4_096))


def _status_token(data: bytes) -> str | bytes:
    """A JWT is text with dots; everything else must be a CWT."""
    return data.decode("ascii").strip() if data[:2] == b"ey" and data.isascii() else data


def _trust_path(given: Path | None) -> Path:
    return given or Path(os.environ.get("LANTAI_TRUST", "trust.json"))


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("--at 需要时区 · --at needs a zone, such as 2026-11-25T12:00:00+08:00")
    return at.astimezone(UTC)


def _print(report: Report, warnings: list[str]) -> None:
    print(_VERDICTS[report.verdict])
    if report.verdict is Verdict.VALID and report.valid_as_of is not None:
        print(f"  截至 · as of {rfc3339(report.valid_as_of)}")
    if report.number:
        print(f"  编号 · number {report.number}")
    if report.successor:
        print(f"  接替证明 · replaced by {report.successor}")
    for label, value in facts.rows(report.facts):
        print(_printable(f"  {label.zh} · {label.en}: {value}"))
    for check in report.checks:
        print(f"  {_MARKS[check.result]} {check.number}. {check.text.zh} · {check.text.en}")
    missing = ("standing", VerificationReason.STATUS_UNKNOWN)
    if report.issuer and missing in [(check.name, check.reason) for check in report.checks]:
        print(
            f"  该馆的状态名录可从网关 /v1/status-lists/{report.issuer} 取得，以 --status 给出"
            f" · its archive's status list is to be had from a gateway at /v1/status-lists/{report.issuer}; give it with --status"
        )
    for warning in warnings:
        print(f"  ! {warning}")


def _printable(text: str) -> str:
    """Control characters of a signed text must not steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _words(error: Exception) -> str:
    if isinstance(error, VerifyError):
        text = TEXTS[error.reason]
        return f"{text.zh} · {text.en} ({error.detail or error.reason})"
    return str(error)


def _cannot(error: Exception, where: str = "") -> int:
    print(f"无法核验 · cannot verify: {where}{_words(error)}", file=sys.stderr)
    if isinstance(error, FileNotFoundError):
        print(
            "需要一个文件，以及联合体公布的信任名录（--trust 或 LANTAI_TRUST）。"
            " · Give a file that exists, and the trust list the federation publishes (--trust or LANTAI_TRUST).",
            file=sys.stderr,
        )
    return CANNOT_TELL


if __name__ == "__main__":
    sys.exit(main())
