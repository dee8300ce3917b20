"""`python -m federation.tlog`: what an operator or auditor does with an evidence log by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate, load_pem_x509_certificates

from federation.suites import SM
from federation.suites.registry import suite
from federation.tlog.auditor import Audit, audit
from federation.tlog.checkpoint import Quorum
from federation.tlog.event_proof import check_event, prove_event
from federation.tlog.flaws import TEXTS, EvidenceError, Flaw
from federation.tlog.note import KeyKind, Note, SecondSigner, Signer, VerifierKey
from federation.tlog.proof import InclusionProof
from federation.tlog.reader import LogReader
from federation.tlog.reconcile import Account, account_of, reconcile
from federation.tlog.stamping import check_stamps
from federation.verify.report import TEXTS as REASONS
from federation.verify.report import VerifyError

OK, WRONG, CANNOT = 0, 1, 2
"""Exit statuses: nothing wrong; something is wrong; it could not be told."""
_WITNESS_HELP = "见证馆公钥，可多次 · a witness's key; may repeat"
_QUORUM_HELP = "至少几家见证 · how many witnesses must have cosigned"


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 nothing wrong, 1 something is wrong, 2 cannot tell."""
    try:
        options = _parser().parse_args(argv)
        status: int = options.run(options)
    except EvidenceError as error:
        text = TEXTS[error.flaw]
        print(f"{text.zh} · {text.en} ({error})", file=sys.stderr)
        return CANNOT
    except VerifyError as error:
        print(f"{REASONS[error.reason].zh} · {REASONS[error.reason].en} ({error.detail})", file=sys.stderr)
        return CANNOT
    except OSError as error:
        print(f"文件读写失败 · a file can not be read or written: {error}", file=sys.stderr)
        return CANNOT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m federation.tlog", description="存证日志 · the evidence log (docs/evidence.md)"
    )
    commands = parser.add_subparsers(required=True, metavar="命令 COMMAND")

    one = commands.add_parser("audit", help="重算整本日志并核对 · compute a whole log again and check it")
    one.add_argument("log", type=Path, help="日志文件 · the log file")
    _add_keys(one)
    one.add_argument(
        "--seen", type=Path, action="append", default=[], metavar="FILE",
        help="以前见过的检查点或 .tlog-proof，可多次 · a checkpoint or proof seen before; may repeat",
    )  # fmt: skip
    one.add_argument(
        "--memory", type=Path, metavar="FILE",
        help="审计员自己的记录：先核对，无误后写入最新检查点 · the auditor's own memory: compared, then renewed if all is well",
    )  # fmt: skip
    one.add_argument(
        "--tsa-root", type=Path, metavar="PEM",
        help="时间戳机构根证书，给出则核对时间戳 · roots of the time-stamp authority; checks the stamps too",
    )  # fmt: skip
    one.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
    one.set_defaults(run=_audit)

    one = commands.add_parser("proof", help="导出一个事件的证明 · write the proof of one event")
    one.add_argument("log", type=Path, help="日志文件 · the log file")
    one.add_argument("request", help='请求编号，无则 "" · the request it is about, "" for none')
    one.add_argument("event", help="事件编号 · the event's id")
    one.add_argument(
        "--open",
        action="store_true",
        help="连同事件内容与盐 · with the event and its salt, so that the file tells what it proves",
    )
    _add_quorum(one)
    one.set_defaults(run=_proof)

    one = commands.add_parser("verify", help="核验一份带事件的证明 · verify a proof that carries its event")
    one.add_argument("proof", type=Path, help="证明文件 · the proof file")
    _add_keys(one)
    one.set_defaults(run=_verify)

    one = commands.add_parser(
        "account", help="导出本方账目，供对账 · write this side's account, to be reconciled"
    )
    one.add_argument("logs", type=Path, nargs="+", metavar="LOG", help="日志文件 · log files of this side")
    one.add_argument("--archive", default="", help="只列某馆 · only events about one archive")
    one.add_argument("--since-ms", type=int, default=0, help="起始时间（毫秒）· from this time on, ms of UTC")
    one.set_defaults(run=_account)

    one = commands.add_parser("reconcile", help="两方对账 · hold two sides against each other")
    one.add_argument("ours", type=Path, help="本方日志或账目 · our log or account")
    one.add_argument("theirs", type=Path, help="对方日志或账目 · their log or account")
    one.add_argument("--archive", default="", help="只对某馆 · only events about one archive")
    one.add_argument(
        "--settled-minutes",
        type=float,
        default=15,
        help="早于此才算缺失，默认 15 · younger events are still open",
    )
    one.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
    one.set_defaults(run=_reconcile)

    one = commands.add_parser("key", help="生成日志或见证密钥 · make a key of a log or a witness")
    one.add_argument("name", help="密钥名，如 log.example/330483 · the name of the key")
    one.add_argument("file", type=Path, help="私钥写入的新文件 · the new file for the private key")
    kind = one.add_mutually_exclusive_group()
    kind.add_argument("--witness", action="store_true", help="见证密钥 · a witness's key")
    kind.add_argument(
        "--second",
        action="store_true",
        help="同名的第二签名密钥（国密），PEM · a key of the national suite, to sign beside the one of this name; PEM",
    )
    one.set_defaults(run=_key)
    return parser


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", required=True, type=VerifierKey.parse, metavar="KEY",
        help="日志公钥，换过密钥则多次 · the log's key; repeat for former keys",
    )  # fmt: skip
    parser.add_argument(
        "--second-key", action="append", type=VerifierKey.parse, metavar="KEY",
        help="第二签名公钥（国密），给出则必须有其签名 · the log's key of another suite; then its signature must be there",
    )  # fmt: skip
    _add_quorum(parser)


def _add_quorum(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--witness", action="append", default=[], type=VerifierKey.parse, metavar="KEY", help=_WITNESS_HELP
    )
    parser.add_argument("--quorum", type=int, default=0, metavar="K", help=_QUORUM_HELP)


def _quorum(options: argparse.Namespace) -> Quorum:
    return Quorum(options.quorum, tuple(options.witness))


def _audit(options: argparse.Namespace) -> int:
    seen = [_seen(path) for path in options.seen]
    if options.memory is not None and options.memory.exists():
        seen.append(_seen(options.memory))
    with LogReader(options.log) as reader:
        result = audit(
            reader,
            options.key,
            seen=seen,
            quorum=_quorum(options),
            second=options.second_key,
            progress=_progress,
        )
        if options.tsa_root is not None:
            for stamp, flaw in check_stamps(reader, _certificates(options.tsa_root)):
                result.add(flaw, stamp.size, f"the stamp by {stamp.name}")
        latest = reader.latest() if result.ok else None
    if latest is not None and options.memory is not None:
        _write(options.memory, str(latest))
    if options.json:
        print(json.dumps(_plain(result), ensure_ascii=False))
    else:
        _tell(result)
    return OK if result.ok else WRONG


def _certificates(path: Path) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise EvidenceError(Flaw.MALFORMED_KEY, "no PEM certificates") from None


def _seen(path: Path) -> Note:
    data = path.read_bytes()
    return InclusionProof.parse(data).note if data.startswith(b"c2sp.org/tlog-proof") else Note.parse(data)


def _progress(done: int, whole: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,}/{whole:,}", end="", file=sys.stderr, flush=True)


def _plain(result: Audit) -> dict[str, Any]:
    return asdict(result) | {"root": result.root.hex(), "ok": result.ok}


def _tell(result: Audit) -> None:
    print(f"{result.origin}: {result.size:,} 条 entries，根 root {result.root.hex()}")
    print(
        f"已清除 erased {result.erased:,}；检查点 checkpoints {result.checkpoints:,}，"
        f"双签 signed twice {result.signed_twice:,}；足数见证 cosigned {result.cosigned:,}；"
        f"与以前对照 compared {result.compared:,}"
    )
    for one in result.findings:
        text = TEXTS[one.flaw]
        print(f"✗ {one.place:,}: {text.zh} · {text.en}" + (f" ({one.detail})" if one.detail else ""))
    if result.left_out:
        print(f"……另有 {result.left_out:,} 处 · and {result.left_out:,} more")
    if not result.ok:
        print("有问题 · not in order")
    elif result.compared:
        print("无误 · in order")
    else:
        print(
            "无误，但没有以前的检查点可对照，末尾是否被删无从得知 · in order, but nothing seen before to compare: a cut end would not show"
        )


def _proof(options: argparse.Namespace) -> int:
    with LogReader(options.log) as reader:
        entry = reader.entry(options.event, options.request)
        if entry is None:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY)
        make = prove_event if options.open else LogReader.prove
        print(make(reader, entry.index, _quorum(options)), end="")
    return OK


def _verify(options: argparse.Namespace) -> int:
    quorum = _quorum(options)
    try:
        event, verified = check_event(
            options.proof.read_bytes(), options.key, quorum, second=options.second_key
        )
    except EvidenceError as error:
        text = TEXTS[error.flaw]
        print(f"✗ {text.zh} · {text.en} ({error})")
        return WRONG
    print(event.canonical().decode())
    names = ", ".join(key.name for key in verified.cosigned) or "—"
    print(f"在册 logged: {verified.checkpoint.origin} #{verified.index}；见证 cosigned: {names}")
    return OK


def _account(options: argparse.Namespace) -> int:
    readers = [LogReader(path) for path in options.logs]
    account = account_of(readers, archive=options.archive, since_ms=options.since_ms)
    sys.stdout.write(account.write().decode() + "\n")
    return OK


def _one_account(path: Path, archive: str) -> Account:
    with path.open("rb") as file:
        is_log = file.read(16) == b"SQLite format 3\0"
    if not is_log:
        return Account.read(path.read_bytes())
    with LogReader(path) as reader:
        return account_of(reader, archive=archive)


def _reconcile(options: argparse.Namespace) -> int:
    settled_ms = int(time.time() * 1_000 - options.settled_minutes * 60_000)
    ours, theirs = _one_account(options.ours, options.archive), _one_account(options.theirs, options.archive)
    result = reconcile(ours, theirs, settled_before_ms=settled_ms)
    if options.json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(result) | {"ok": result.ok}, ensure_ascii=False))
        return OK if result.ok else WRONG
    print(
        f"请求 requests {result.requests:,}；相符 agreed {result.agreed:,}；"
        f"已清除 erased {result.erased:,}；进行中 open {result.open:,}"
    )
    for one in result.differences:
        what = {
            "ours": "本方缺失 · missing on our side",
            "theirs": "对方缺失 · missing on their side",
            "": "两方内容不同 · the two sides logged different contents",
        }[one.missing]
        print(f"✗ {one.request} {one.kind}: {what}")
    return OK if result.ok else WRONG


def _key(options: argparse.Namespace) -> int:
    signer: Signer | SecondSigner
    if options.second:
        key = suite(SM).generate("SM2")
        signer, secret = SecondSigner(options.name, key), suite(SM).dump(key).decode()
    else:
        signer = Signer.generate(options.name, KeyKind.WITNESS if options.witness else KeyKind.LOG)
        secret = signer.secret() + "\n"
    descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret)
    print(signer.key)
    return OK


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
