"""`lantai-gateway trust …`: the federation's trust list from what its parties hand in, signed. Needs no gateway, only files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from federation.process.durable import put, write_secret
from federation.suites import INTL, SM
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import thumbprint
from federation.suites.intl import ED25519, ES256, public_of
from federation.suites.registry import suite
from federation.tlog.note import SecondSigner, Signer, VerifierKey
from federation.trust import MOST_BYTES, Role, SecondSuite, TrustedKey, TrustList, Use, federation_key
from federation.verify.report import VerifyError, rfc3339
from gateway.lists import editions
from gateway.lists.editions import Edition, Tree
from gateway.lists.files import DRY_RUN, NEXT_START, NO_CHANGE, ListError, alone, difference, read_file, shown
from gateway.settings import GatewaySettings

SUMMARY = "信任名录 · the trust list"

_TERM = timedelta(days=730)
"""How long the keys of a gateway's entry are proposed to be believed, like those of `lantai-node keys show`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `trust` and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("list", "列出名录中的各方与密钥 · list parties and keys"),
        (
            "add",
            "加入各方交来的条目；已在名录中的，补入新密钥 · add entries handed in; to a party on the list, its new keys",
        ),
        ("change", "修改一方 · change a party"),
        ("remove", "移出一方，其签发的一切不再可信 · remove a party: nothing it signed is believed any more"),
        ("sign", "签署草稿并替换现行名录 · sign a draft and put it in place of the list"),
        ("key", "打印联合体的公钥（JWK） · print the federation's public key, a JWK"),
        ("entry", "打印本网关的名录条目 · print this gateway's entry for the list"),
    ):
        one = actions.add_parser(name, help=text, description=text)
        if name == "entry":
            one.add_argument(
                "--config",
                default="gateway.toml",
                metavar="FILE",
                help="设置文件 · settings file (gateway.toml)",
            )
            continue
        if name != "key":
            one.add_argument(
                "--list", type=Path, default=Path("trust.json"), metavar="FILE",
                help="现行名录 · the list in place (trust.json)",
            )  # fmt: skip
        if name != "list":
            one.add_argument(
                "--key", type=Path, metavar="FILE", required=name in {"sign", "key"},
                help="联合体的私钥，PEM，Ed25519 或 P-256 · the federation's private key, PEM, Ed25519 or P-256",
            )  # fmt: skip
        _add_flags(one, name)


def _add_flags(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "list":
        parser.add_argument(
            "--federation-key", type=Path, metavar="FILE",
            help="联合体公钥（JWK），核对签名 · the federation's public key, a JWK: the list must be signed by it",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="输出一个 JSON 对象 · print one JSON object")
    if action == "key":
        parser.add_argument(
            "--create", action="store_true", help="先生成 Ed25519 私钥 · make one first, Ed25519"
        )
    if action == "add":
        parser.add_argument(
            "entries", nargs="+", type=Path, metavar="ENTRY",
            help="条目文件，如 lantai-node keys show 所印 · files as lantai-node keys show prints them",
        )  # fmt: skip
        parser.add_argument(
            "--role",
            type=Role,
            choices=list(Role),
            default=Role.ARCHIVE,
            help="身份 · what they are (archive)",
        )
        parser.add_argument(
            "--federation",
            metavar="NAME",
            help="联合体名，新建名录时必给 · name of the federation, for a new list",
        )
    if action == "sign":
        parser.add_argument("draft", type=Path, metavar="DRAFT", help="草稿 · the draft")
    if action in {"change", "remove"}:
        parser.add_argument(
            "party",
            metavar="ID",
            help="馆的代码，或其他各方的名称 · code of the archive, name of another party",
        )
    if action == "change":
        parser.add_argument("--name", metavar="NAME", help="馆名 · name of the archive")
        parser.add_argument("--key-id", metavar="KEY", help="要修改的密钥 · the key to change")
        parser.add_argument(
            "--not-after", type=_time, metavar="TIME", help="该密钥有效至 · the key is believed until then"
        )
        parser.add_argument(
            "--compromised-at", type=_time, metavar="TIME",
            help="该密钥泄露的时间 · since when the key may be in wrong hands",
        )  # fmt: skip
    if action in {"add", "change"}:
        parser.add_argument(
            "--second-suite-from", type=_time, metavar="TIME",
            help="自此时起须有第二签名 · from then on it must sign twice",
        )  # fmt: skip
    if action in {"add", "change", "remove"}:
        parser.add_argument(
            "--to",
            type=Path,
            metavar="DRAFT",
            help="写入草稿，不动现行名录 · write a draft, leave the list in place alone",
        )
    if action not in {"list", "key"}:
        parser.add_argument(
            "--dry-run", action="store_true", help="只显示将有的变化 · only tell what would change"
        )


def _time(text: str) -> str:
    """An RFC 3339 time with a zone, as the list writes it."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(
            "应为带时区的时间 · must be a time with a zone, such as 2026-12-01T00:00:00+08:00"
        )
    return rfc3339(at)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 done, 2 wrong use. ListError, with all files as they were, says why not."""
    match args.action:
        case "key":
            key = _made_key(args.key) if args.create else _read_key(args.key)
            print(json.dumps(suite(INTL).jwk(key.public)))
        case "list":
            content = read_file(args.list, MOST_BYTES)
            _list(Edition.parse(content, args.list, _read_public(args.federation_key)), args)
        case "sign":
            with alone(args.list.resolve()):
                _sign(args, _read_key(args.key))
        case "change" if (args.not_after or args.compromised_at) and not args.key_id:
            print("lantai-gateway trust change: 请给出 --key-id · give --key-id", file=sys.stderr)
            return 2
        case "change" if not _names_a_change(args):
            print("lantai-gateway trust change: 请给出要修改的项 · say what to change", file=sys.stderr)
            return 2
        case _:
            with alone((args.to or args.list).resolve()):
                _edit(args, None if args.key is None else _read_key(args.key))
    return 0


def _names_a_change(args: argparse.Namespace) -> bool:
    given = (args.name, args.second_suite_from, args.not_after, args.compromised_at)
    return any(one is not None for one in given)


def _sign(args: argparse.Namespace, key: PrivateKey) -> None:
    """Sign a draft in place of the list."""
    path = args.list.resolve()
    before = Edition.read(path, key.public) if path.exists() else None
    tree = editions.signable(before, Edition.read(args.draft), args.draft)
    _put(before, tree, key, path, is_trial=args.dry_run)


def _edit(args: argparse.Namespace, key: PrivateKey | None) -> None:
    """Make the next edition: signed in place of the list, or a draft."""
    path = args.list.resolve()
    before = Edition.read(path, None if key is None else key.public) if path.exists() else None
    to = path if args.to is None else args.to.resolve()
    if args.to is not None and to.exists():
        raise ListError(
            f"{to}: 已存在；继续这份草稿请用 --list · is there already; go on with that draft by --list"
        )
    if key is None and to == path and before is not None and before.is_signed:
        raise ListError(
            f"{path}: 名录已签署，请给出 --key，或用 --to 写入草稿 · the list is signed: give --key, or write a draft by --to"
        )
    if key is not None and before is not None and not before.is_signed:
        raise ListError(
            f"{path}: 名录没有签名，无从知道是否被改动；先核对，再 sign {path}"
            f" · the list bears no signature, so nobody knows who changed it: look through it, then sign {path}"
        )
    _put(before, _edited(before, args), key, to, is_trial=args.dry_run)


def _edited(before: Edition | None, args: argparse.Namespace) -> Tree | None:
    """The next edition as the flags say; None where it says the same."""
    if before is not None:
        tree = before.unsigned
    elif args.action == "add" and args.federation:
        tree = editions.begun(args.federation)
    else:
        raise ListError(
            f"{args.list}: 没有名录；新建请用 add 并给出 --federation · there is no list; begin one by add with --federation"
        )
    old = json.dumps(tree)
    if args.action == "add":
        if args.federation not in {None, tree["federation"]}:
            raise ListError(f"--federation: 名录属于 · the list is of {tree['federation']}")
        for path in args.entries:
            _add(tree, path, args)
    else:
        parties, party = editions.party(tree, args.party)
        if args.action == "remove":
            parties.remove(party)
        else:
            _change(party, args)
    if json.dumps(tree) == old:
        return None
    return tree | {"epoch": tree["epoch"] + 1, "issued_at": editions.now()}


def _add(tree: Tree, path: Path, args: argparse.Namespace) -> None:
    entry = editions.entry(path, args.role)
    listed = editions.add(tree, entry, args.role, path)
    if args.second_suite_from is not None:
        editions.ask_twice(listed, args.second_suite_from)
    elif "second_suite" in entry and "second_suite" not in listed:
        print(
            f"{path}: 条目提出第二签名，未采用；要求时请用 --second-suite-from"
            " · the entry proposes second signatures, which are not asked for: that takes --second-suite-from",
            file=sys.stderr,
        )


def _change(party: Tree, args: argparse.Namespace) -> None:
    if args.name is not None:
        editions.rename(party, args.name)
    if args.second_suite_from is not None:
        editions.ask_twice(party, args.second_suite_from)
    if args.key_id is not None:
        key = editions.key_of(party, args.key_id)
        key |= {
            field: getattr(args, field)
            for field in ("not_after", "compromised_at")
            if getattr(args, field) is not None
        }


def _put(
    before: Edition | None, tree: Tree | None, key: PrivateKey | None, path: Path, *, is_trial: bool
) -> None:
    """Judge an edition, tell what is other than before, and write it."""
    if tree is None:
        print(NO_CHANGE)
        return
    content = editions.written(tree, key)
    after = Edition.parse(content, path, None if key is None else key.public)
    told = None if before is None else before.list
    if key is not None and before is not None and not before.is_signed:
        told = None  # nobody vouches for it: all of it is new to whoever signs
    editions.check(told, after.list)
    for line in _difference(told, after.list):
        print(line)
    print(f"epoch {'–' if before is None else before.list.epoch} → {after.list.epoch}")
    if key is not None:
        print(
            f"签署密钥的指纹 · thumbprint of the key it is signed by: {thumbprint(suite(INTL).jwk(key.public))}"
        )
    if is_trial:
        print(DRY_RUN)
        return
    put(path, content, 0o644)
    print(
        f"{NEXT_START}\n各馆与核验者也须换用 · archives and verifiers need it too"
        if key
        else f"未签署 · not signed: {path}"
    )


# keys ------------------------------------------------------------------------------------------------------------


def _read_key(path: Path) -> PrivateKey:
    """The federation's private key. ListError says what else is in the file."""
    try:
        pem = path.read_bytes()
        native = serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        raise ListError(
            f"--key: {path}: 私钥有口令，请先解开 · it has a pass phrase, take it off first"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ListError(f"--key: {path}: 不是 PEM 私钥 · no private key in PEM") from error
    try:
        alg = public_of(native.public_key()).alg
    except VerifyError:
        alg = ""
    if alg not in {ED25519, ES256}:
        raise ListError(f"--key: {path}: 应为 Ed25519 或 P-256 私钥 · it must be an Ed25519 or P-256 key")
    return suite(INTL).load(pem, alg)


def _made_key(path: Path) -> PrivateKey:
    """A new key, in a file that was not there."""
    if path.exists():
        raise ListError(f"--key: {path}: 已存在 · is there already")
    chosen = suite(INTL)
    write_secret(path, chosen.dump(chosen.generate(ED25519)))
    return _read_key(path)


def _read_public(path: Path | None) -> PublicKey | None:
    if path is None:
        return None
    try:
        return federation_key(read_file(path, 4_096))
    except VerifyError as error:
        raise ListError(
            f"--federation-key: {path}: 不是 Ed25519 或 P-256 的 JWK · no JWK of Ed25519 or P-256"
        ) from error


# telling ---------------------------------------------------------------------------------------------------------


def _difference(before: TrustList | None, after: TrustList) -> Iterator[str]:
    old, new = {} if before is None else _told(before), _told(after)
    for name in dict.fromkeys([*old, *new]):
        yield from difference(_bare(name), old.get(name), new.get(name), lambda _key, value: _bare(value))


def _bare(text: str) -> str:
    return shown(text)[1:-1]


def _told(trust: TrustList) -> dict[str, dict[str, str]]:
    """Of each party all that the list says, a line each."""
    return {
        party.id: {"role": party.role.value, "name": party.name, **_second(party.second_suite)}
        | {f"key {key.id}": " ".join(_of_key(key)) for key in party.keys.values()}
        for party in trust.parties.values()
    }


def _second(asked: SecondSuite | None) -> dict[str, str]:
    return {} if asked is None else {"second_suite": f"{asked.suite} from {rfc3339(asked.since)}"}


def _of_key(key: TrustedKey) -> Iterator[str]:
    yield f"{key.use} {key.suite} {key.alg} {rfc3339(key.not_before)}–{rfc3339(key.not_after)}"
    yield editions.identity(key)
    if key.vkey is not None:
        yield VerifierKey.parse(key.vkey).name
    if key.certificate is not None:
        yield f"certificate sha256:{sha256(key.certificate.encode()).hexdigest()}"
    if key.compromised_at is not None:
        yield f"compromised_at {rfc3339(key.compromised_at)}"


def _list(edition: Edition, args: argparse.Namespace) -> None:
    trust = edition.list
    if args.json:
        told = {
            "federation": trust.federation,
            "epoch": trust.epoch,
            "issued_at": rfc3339(trust.issued_at),
            "signed": edition.is_signed,
            "parties": [
                {"id": party.id, "role": party.role, "name": party.name, "keys": len(party.keys)}
                for party in trust.parties.values()
            ],
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    for name, lines in _told(trust).items():
        print(_bare(name))
        for field, text in lines.items():
            print(f"    {_bare(field)} = {_bare(text)}")
    signed = "无签名 · not signed"
    if edition.is_signed:
        signed = (
            "签名已核对 · signature checked" if args.federation_key else "签名未核对 · signature not checked"
        )
    print(
        f"{trust.federation} 第 {trust.epoch} 版，{len(trust.parties)} 方"
        f" · edition {trust.epoch} of {rfc3339(trust.issued_at)}, {len(trust.parties)} parties; {signed}"
    )


# the gateway's own -----------------------------------------------------------------------------------------------


def gateway_entry(name: str, log: Signer, second: SecondSigner | None, at: datetime) -> Tree:
    """A gateway's entry for the list: the keys of its evidence log, public halves only."""
    term = {"not_before": rfc3339(at - timedelta(days=1)), "not_after": rfc3339(at + _TERM)}
    signers = [("log", INTL, ED25519, log.key)]
    if second is not None:
        signers.append((f"log-{SM}", SM, "SM2", second.key))
    return {
        "name": name,
        "keys": [
            {"id": key_id, "use": Use.LOG.value, "suite": suite_name, "alg": alg, "vkey": str(vkey), **term}
            for key_id, suite_name, alg, vkey in signers
        ],
    }


def print_entry(settings: GatewaySettings, base: Path) -> int:
    """Print the entry of the gateway with these settings; its log's key is made on first use, as by `run`."""
    from gateway.app import log_signers

    signer, second = log_signers(settings, base)
    print(
        json.dumps(
            gateway_entry(settings.log_name, signer, second, datetime.now(UTC)), ensure_ascii=False, indent=1
        )
    )
    return 0
