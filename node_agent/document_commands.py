"""`lantai-node keys` and `lantai-node documents`: the archive's keys, and what it has issued."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from federation.process.os_errors import said
from federation.reasons import TEXTS, Refusal
from federation.verify.report import TEXTS as VERIFY_TEXTS
from federation.verify.report import VerifyError
from node_agent import settings as settings_module
from node_agent.certificates import keys as key_files
from node_agent.certificates.credentials import FLATTENED
from node_agent.certificates.keys import KeysMissingError
from node_agent.certificates.registry import Registry
from node_agent.certificates.sealing import SealError
from node_agent.certificates.signing_anew import (
    QR_MEDIA_TYPE,
    NoSecondKeyError,
    Outcome,
    SigningAnew,
    is_time_missing,
    newest,
)
from node_agent.certificates.store import CertificateStore, DocumentState
from node_agent.settings import NodeSettings, SettingsError

REASONS = ("key_compromise", "issued_in_error", "record_corrected", "holder_request", "superseded")
"""Why a document is taken back; a closed list, for it is logged and shown."""


def configure_keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        (
            "create",
            "生成尚缺的密钥与印章证书请求 · make the keys that are missing, and a request for the seal's certificate",
        ),
        ("show", "打印本馆的信任名录条目 · print this archive's entry for the trust list"),
    ):
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
        if name == "create":
            one.add_argument(
                "--second-suite",
                choices=sorted(key_files.SECOND),
                help="另生成第二签名的密钥（国密） · also the keys of second signatures, of the national suite",
            )


def run_keys(args: argparse.Namespace) -> int:
    """Exit 1 with the reason when it can not be done."""
    folder = Path(args.data)
    try:
        settings = settings_module.load(folder)
        if args.action == "create":
            made = key_files.create(
                folder, settings.archive, settings.federation, second_suite=args.second_suite
            )
            print("已生成 · made: " + ", ".join(made) if made else "密钥齐备 · all keys are there")
            print("下一步：将 keys/seal.csr 交签发机构，证书链存为 keys/seal.pem，吊销列表存为 keys/*.crl")
            print(
                "next: have keys/seal.csr certified; put the chain at keys/seal.pem, revocation lists at keys/*.crl"
            )
        else:
            entry = key_files.trust_entry(
                key_files.load(folder), settings.archive, settings.name, datetime.now(UTC)
            )
            print(json.dumps(entry, ensure_ascii=False, indent=1))
    except (SettingsError, KeysMissingError, SealError) as error:
        print(f"lantai-node keys: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the entry had seen enough
        raise
    except OSError as error:
        print(f"lantai-node keys: {said(error)}", file=sys.stderr)
        return 1
    return 0


_ANEW = (
    "{zh}：编号与内容不变，日期为今日。可反复运行，中断后再运行即继续。已发出的纸本不变，其新二维码和凭证用 hand-out 交给持有人。"
    " · {en}: the same number and facts, today's date. It may be run again, and goes on after an interruption. Papers that are out"
    " stay as they are; hand-out gives their holders the new QR code and credential."
)


def configure_documents(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "一份文书的状态 · how a document stands"
    shown = actions.add_parser("show", help=text, description=text)
    text = "撤销文书 · take a document back"
    revoked = actions.add_parser("revoke", help=text, description=text)
    revoked.add_argument("--reason", required=True, choices=REASONS, help="原因 · why")
    zh, en = (
        "把只有一个签名的二维码文本和凭证重新作双签名",
        "sign anew, with both suites, what was signed once",
    )
    anew = actions.add_parser("sign-anew", help=f"{zh} · {en}", description=_ANEW.format(zh=zh, en=en))
    anew.add_argument("--dry-run", action="store_true", help="只清点，不签名 · count, sign and write nothing")
    text = "把文书最新的各种形式写入文件夹，交给持有人 · write a document's newest forms into a folder, for its holder"
    handed = actions.add_parser("hand-out", help=text, description=text)
    handed.add_argument("--to", required=True, metavar="FOLDER", help="目标文件夹 · where to")
    text = (
        "恢复备份后：此编号及以前的不再使用 · after a backup was put back: give out no number up to this one"
    )
    skipped = actions.add_parser("skip-to", help=text, description=text)
    for one in (shown, revoked, handed, skipped):
        one.add_argument("number", metavar="NUMBER", help="文书编号 · number of the document")
    for one in (shown, revoked, anew, handed, skipped):
        one.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")


def run_documents(args: argparse.Namespace) -> int:
    """Exit 1 with the reason when it can not be done. A running agent signs the new status list within seconds."""
    folder = Path(args.data)
    try:
        settings = settings_module.load(folder)
        store = CertificateStore(folder, settings.archive)
        try:
            match args.action:
                case "sign-anew":
                    return _sign_anew(folder, settings, store, is_trial=args.dry_run)
                case "hand-out":
                    return _hand_out(folder, store, args.number, Path(args.to))
                case "skip-to":
                    return _skip_to(store, args.number)
                case "revoke":
                    store.revoke(args.number, args.reason, int(datetime.now(UTC).timestamp() * 1000))
            entry = store.entry(args.number)
        finally:
            store.close()
    except (SettingsError, KeysMissingError, SealError) as error:
        return _fail(str(error))
    except Refusal as refusal:
        text = TEXTS[refusal.reason]
        return _fail(f"{text.zh} · {text.en}")
    line = {"number": entry.number, "kind": entry.kind, "state": entry.state, "reason": entry.reason,
            "successor": entry.successor, "sha256": entry.sha256, "size": entry.size}  # fmt: skip
    print(json.dumps(line, ensure_ascii=False))
    return 0


def _fail(message: str) -> int:
    print(f"lantai-node documents: {message}", file=sys.stderr)
    return 1


def _skip_to(store: CertificateStore, number: str) -> int:
    try:
        following = store.skip_to(number)
    except ValueError:
        return _fail(f"不是本馆的文书编号 · no number of this archive: {number}")
    print(f"下一个编号 · the next number: {following}")
    return 0


# signing anew ----------------------------------------------------------------------------------------------------

_OUTCOMES = {
    Outcome.SIGNED: "重新签名 · signed anew",
    Outcome.SIGNED_BEFORE: "此前已重新签名 · signed anew before",
    Outcome.TWICE: "原本就有双签名 · signed twice from the beginning",
    Outcome.NOT_STANDING: "已撤销或被取代，未动 · revoked or replaced, left alone",
    Outcome.EXPIRED: "已过期，未动 · expired, left alone",
    Outcome.UNFINISHED: "尚未出具完成 · not issued yet",
}


def _sign_anew(folder: Path, settings: NodeSettings, store: CertificateStore, *, is_trial: bool) -> int:
    """Sign anew what needs it, and say what became of all; 1 when some could not be, or it was interrupted."""
    from node_agent.documents import check_second_suite, trust_list

    keys, trust = key_files.load(folder), trust_list(folder, settings)
    check_second_suite(trust, settings.archive, keys)
    registry = Registry(folder)
    try:
        signing = SigningAnew(settings.archive, store, registry, keys, trust, lambda: datetime.now(UTC))
        return _sign_all(signing, store, is_trial=is_trial)
    except NoSecondKeyError:
        return _fail(
            "本馆没有第二签名的密钥，请运行 lantai-node keys create --second-suite sm-1"
            " · this archive has no keys of second signatures; run lantai-node keys create --second-suite sm-1"
        )
    except VerifyError as error:
        return _fail(
            f"信任名录此刻不认本馆的签名密钥：{VERIFY_TEXTS[error.reason].zh}（{error.detail}）"
            f" · the trust list does not believe this archive's key now: {VERIFY_TEXTS[error.reason].en} ({error.detail})"
        )
    finally:
        registry.close()


def _sign_all(signing: SigningAnew, store: CertificateStore, *, is_trial: bool) -> int:
    outcomes: Counter[Outcome] = Counter()
    numbers, unstamped, failed, is_interrupted = signing.numbers(), 0, 0, False
    with _progress(len(numbers)) as advance:
        try:
            for number in numbers:
                try:
                    outcome = signing.sign(number, is_trial=is_trial)
                except (VerifyError, Refusal) as error:
                    failed += 1
                    why = (
                        VERIFY_TEXTS[error.reason] if isinstance(error, VerifyError) else TEXTS[error.reason]
                    )
                    _fail(f"{number}: {why.zh} · {why.en}")
                else:
                    outcomes[outcome] += 1
                    if outcome in {Outcome.SIGNED, Outcome.SIGNED_BEFORE}:
                        unstamped += is_time_missing(store, number)
                advance()
        except KeyboardInterrupt:
            is_interrupted = True
    if is_trial:
        print("只清点，未写入任何内容 · counted only, nothing was written")
    for outcome, text in _OUTCOMES.items():
        if outcomes[outcome] or outcome is Outcome.SIGNED:
            print(f"{outcomes[outcome]:>8}  {text}")
    if failed:
        print(f"{failed:>8}  未能重新签名，原因见上 · not signed anew, for the reasons above")
    if unstamped:
        print(
            f"{unstamped:>8}  其 PDF 没有时间戳，自要求双签名之日起无法判断"
            " · of those signed anew: their PDF has no time stamp, and nobody can tell from the day on"
        )
    if is_interrupted:
        print("已中断，再次运行即继续 · interrupted; run it again to go on")
    return 1 if failed or is_interrupted else 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar where somebody watches; what it gives is to be called for each certificate."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("重新签名 · signing anew"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


# handing out -----------------------------------------------------------------------------------------------------


def _hand_out(folder: Path, store: CertificateStore, number: str, to: Path) -> int:
    """Write the newest forms of a document that stands: PDF, QR text and code, credentials."""
    from node_agent.certificates.typesetting import qr_svg

    entry = store.entry(number)
    if entry.state != DocumentState.VALID:
        return _fail("已撤销或被取代，不再交付 · revoked or replaced: not handed out any more")
    files = {f"{number}.pdf": store.read(number, stamped=True)}
    registry = Registry(folder)
    try:
        for kept in newest(registry, number):
            content = registry.read(kept)
            if kept.media_type == QR_MEDIA_TYPE:
                files[f"{number}.qr.txt"] = content
                files[f"{number}.qr.svg"] = qr_svg(content.decode("ascii"), border=4).encode()
            else:
                ending = "json" if kept.media_type == FLATTENED else "sd-jwt"
                for place, line in enumerate(content.split(b"\n"), 1):
                    files[f"{number}.credential-{place}.{ending}"] = line
    finally:
        registry.close()
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            path = to / name
            with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            print(path)
    except OSError as error:
        return _fail(said(error))
    return 0
