"""`lantai-node keys` and `lantai-node documents`: the archive's keys, and what it has issued."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from federation.reasons import TEXTS, Refusal
from node_agent import settings as settings_module
from node_agent.certificates import keys as key_files
from node_agent.certificates.keys import KeysMissingError
from node_agent.certificates.sealing import SealError
from node_agent.certificates.store import CertificateStore
from node_agent.settings import SettingsError

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
    except OSError as error:
        print(f"lantai-node keys: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def configure_documents(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    shown = actions.add_parser("show", help="一份文书的状态 · how a document stands")
    revoked = actions.add_parser("revoke", help="撤销文书 · take a document back")
    revoked.add_argument("--reason", required=True, choices=REASONS, help="原因 · why")
    for one in (shown, revoked):
        one.add_argument("number", metavar="NUMBER", help="文书编号 · number of the document")
        one.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")


def run_documents(args: argparse.Namespace) -> int:
    """Exit 1 with the reason when it can not be done. A running agent signs the new status list within seconds."""
    folder = Path(args.data)
    try:
        store = CertificateStore(folder, settings_module.load(folder).archive)
        try:
            if args.action == "revoke":
                store.revoke(args.number, args.reason, int(datetime.now(UTC).timestamp() * 1000))
            entry = store.entry(args.number)
        finally:
            store.close()
    except SettingsError as error:
        print(f"lantai-node documents: {error}", file=sys.stderr)
        return 1
    except Refusal as refusal:
        text = TEXTS[refusal.reason]
        print(f"lantai-node documents: {text.zh} · {text.en}", file=sys.stderr)
        return 1
    line = {"number": entry.number, "kind": entry.kind, "state": entry.state, "reason": entry.reason,
            "successor": entry.successor, "sha256": entry.sha256, "size": entry.size}  # fmt: skip
    print(json.dumps(line, ensure_ascii=False))
    return 0
