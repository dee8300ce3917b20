"""`lantai-gateway platform …`: who may ask for tokens, and where platforms are called back. Public keys alone come in, no secret goes out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from federation.suites.encoding import thumbprint
from federation.verify import strict_json
from federation.verify.report import VerifyError
from gateway.edge.tokens import SCOPES, Clients, ClientsError, is_usable
from gateway.lists import actions
from gateway.lists.files import ListError, difference, read_file, shown
from gateway.lists.rows import Rows, change
from gateway.settings import GatewaySettings

SUMMARY = "可申请令牌的平台 · platforms that may ask for tokens"
_MAY_GO = ("webhook", "webhook_networks", "webhook_secret")
"""What a row may do without."""

_LARGEST_KEY = 16_384
"""Bytes of a file that may hold a public key; a P-256 one has under 500."""

_PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
"""RFC 7518 §6: what only the owner of a key has."""

_KEY_MEMBERS = ("kty", "crv", "x", "y")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `platform` and their flags."""
    actions.configure(
        parser,
        helps={
            "list": "列出平台 · list the platforms",
            "add": "加入一个平台 · add a platform",
            "change": "修改一个平台，未给出的保持不变 · change a platform; what is not given stays",
            "remove": "移除一个平台 · remove a platform",
        },
        name=("id", "ID", "平台代号 · its id: letters, digits and . _ -"),
        add_keys=_add_keys,
        may_go=_MAY_GO,
    )


def _add_keys(parser: argparse.ArgumentParser, is_new: bool) -> None:
    parser.add_argument(
        "--key",
        type=Path,
        required=is_new,
        metavar="FILE",
        help="平台的 P-256 公钥，JWK 或 PEM · its public P-256 key, a JWK or PEM",
    )
    parser.add_argument(
        "--scope",
        default="search" if is_new else None,
        help=f"许可范围，空格分隔 · what it may ask for, parted by spaces, of: {' '.join(SCOPES)} (new: search)",
    )
    parser.add_argument("--webhook", metavar="URL", help="回调网址 · where it is called back")
    parser.add_argument(
        "--webhook-secret",
        type=Path,
        action="append",
        metavar="FILE",
        help="存有回调签名密钥（whsec_…）的文件，可多次，新的在前 · file with the secret its calls are signed with; may repeat, the newest first",
    )
    parser.add_argument(
        "--webhook-networks",
        action="append",
        metavar="CIDR",
        help="平台所在的内网，可多次 · a private network it may be in; may repeat",
    )


def run(settings: GatewaySettings, base: Path, args: argparse.Namespace) -> int:
    """Exit status 0 done, 2 wrong use. ListError, with the file as it was, says why not."""
    if not settings.clients:
        raise ListError("clients: 设置中没有平台名单文件 · the settings name no file of platforms")
    path = (base / settings.clients).resolve()
    if args.action == "list":
        _list(path, as_json=args.json)
        return 0
    values = {} if args.action == "remove" else _values(args)
    if args.action == "change" and not values:
        print("lantai-gateway platform change: 请给出要修改的项 · say what to change", file=sys.stderr)
        return 2

    def edit(rows: Rows) -> Rows:
        edited = _edited(rows, args, values)
        if edited is not rows:
            _check(edited, path)
        if (
            edited.has(args.id)
            and set(_MAY_GO) & (row := edited.named(args.id)).keys()
            and "webhook" not in row
        ):
            raise ListError(
                "--webhook: 缺少回调网址 · there is no address to call: its secret and networks are of no use"
            )
        return edited

    change(
        ("client", "id", path),
        edit,
        lambda before, after: _tell(before, after, args.id),
        is_trial=args.dry_run,
    )
    return 0


def _values(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of a row, None for what is to go."""
    for key in ("scope", "webhook"):
        if getattr(args, key) == "":
            raise ListError(f"--{key}: 不得为空 · must not be empty")
    values = {
        "scope": args.scope,
        "jwk": None if args.key is None else read_key(args.key),
        "webhook": args.webhook,
        "webhook_secret": [_text(one) for one in args.webhook_secret or ()],
        "webhook_networks": args.webhook_networks,
    }
    given = {key: value for key, value in values.items() if value}
    if args.action == "change":
        given |= actions.taken_out(args.without, given)
    return given


def _edited(rows: Rows, args: argparse.Namespace, values: Mapping[str, Any]) -> Rows:
    jwk = values.get("jwk")
    if jwk and (same := [row["id"] for row in rows.rows if row.get("id") != args.id and _is_of(row, jwk)]):
        raise ListError(
            f"--key: 与平台 {same[0]} 的公钥相同 · this is the key of the platform {same[0]}: one could pose as the other"
        )
    if args.action == "change" and jwk and _is_of(rows.named(args.id), jwk):
        values = {key: value for key, value in values.items() if key != "jwk"}
    return actions.edited(rows, args.action, args.id, values)


def _is_of(row: Mapping[str, Any], jwk: Mapping[str, str]) -> bool:
    held = row.get("jwk")
    return isinstance(held, dict) and all(held.get(part) == jwk[part] for part in _KEY_MEMBERS)


def _check(rows: Rows, path: Path) -> None:
    """Have it read as the gateway reads it at its start. ListError says what is wrong."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.adapters.hooks import HookSettingsError, parse_targets
    from gateway.adapters.webhook_signing import CallKey

    content = rows.text.encode()
    try:
        Clients.parse(content)
        parse_targets(
            content, CallKey(Ed25519PrivateKey.generate())
        )  # a gateway always has one; its own is not looked at here
    except (ClientsError, HookSettingsError) as error:
        raise ListError(f"{path}: {error}") from error


# keys ------------------------------------------------------------------------------------------------------------


def read_key(path: Path) -> dict[str, str]:
    """The public P-256 key in a file, as a JWK of nothing but its point. ListError names what else it is."""
    text = _text(path)
    if "PRIVATE KEY" in text:
        raise _private(path)
    if text.startswith("-----BEGIN PUBLIC KEY-----"):
        try:
            key = serialization.load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ListError(f"--key: {path}: 公钥无法使用 · the key can not be used") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise _weak(path, type(key).__name__.strip("_").removesuffix("PublicKey") or "?")
        jwk: dict[str, Any] = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = _jwk(path, text)
    return {part: jwk[part] for part in _KEY_MEMBERS}


def _jwk(path: Path, text: str) -> dict[str, Any]:
    try:
        jwk = strict_json.load_object(text, most=_LARGEST_KEY)
    except VerifyError as error:
        raise ListError(
            f"--key: {path}: 应为 JWK，或以 BEGIN PUBLIC KEY 开头的 PEM · it must be a JWK, or PEM that begins with BEGIN PUBLIC KEY"
        ) from error
    keys = jwk.get("keys", [jwk])
    if not isinstance(keys, list) or len(keys) != 1 or not isinstance(keys[0], dict):
        raise ListError(f"--key: {path}: 应只有一个公钥 · it must hold one key")
    jwk = keys[0]
    if jwk.keys() & _PRIVATE_MEMBERS:
        raise _private(path)
    if not is_usable(jwk) or not all(isinstance(jwk.get(part), str) for part in _KEY_MEMBERS):
        said = "/".join(str(jwk[part]) for part in ("kty", "crv", "alg", "use") if part in jwk)
        raise _weak(path, shown(said).strip('"'))
    return jwk


def _private(path: Path) -> ListError:
    return ListError(
        f"--key: {path}: 这是私钥，平台不应交出：请平台另换一把，只交公钥"
        " · this is a private key, which no platform may give away: have it make another one and hand in the public half alone"
    )


def _weak(path: Path, said: str) -> ListError:
    return ListError(
        f"--key: {path}: 应为验签用的 P-256 公钥（ES256），而非 {said}"
        f" · it must be a public P-256 key for signatures (ES256), not {said}"
    )


def _text(path: Path) -> str:
    """The text of a small file, without what is around it."""
    try:
        return read_file(path, _LARGEST_KEY).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: 不是文本 · not text") from error


# telling ---------------------------------------------------------------------------------------------------------


def _tell(before: Rows, after: Rows, name: str) -> None:
    old, new = (rows.named(name) if rows.has(name) else None for rows in (before, after))
    for line in difference(name, old, new, _shown):
        print(line)
    if new is None and (count := before.comments_of(name)):
        print(f"    # 其 {count} 行注释一并移去 · {count} comment lines of it go as well")
    if new is not None and (old is None or old.get("jwk") != new["jwk"]):
        print(
            f"公钥指纹（RFC 7638），请与平台核对 · thumbprint of its key, compare it with the platform's: {_thumbprint(new)}"
        )


def _shown(key: str, value: Any) -> str:
    """A value without what is secret: secrets, and what follows the host of a web address, which may hold one."""
    if key == "webhook_secret":
        return f"*** ×{len(value) if isinstance(value, list) else 1}"
    return shown(_origin(value) + "/…" if key == "webhook" else value)


def _origin(url: str) -> str:
    """Scheme, host and port of a web address; of one that is none, nothing."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except (ValueError, AttributeError):
        return "?"
    return f"{parts.scheme}://{parts.hostname}{port}"


def _thumbprint(row: Mapping[str, Any]) -> str:
    return thumbprint({part: row["jwk"][part] for part in _KEY_MEMBERS})


def _list(path: Path, *, as_json: bool) -> None:
    rows = Rows("client", "id", path.read_bytes(), path)
    _check(rows, path)
    told = []
    for row in rows.rows:
        one = {"id": row["id"], "scope": row.get("scope", "search"), "thumbprint": _thumbprint(row)}
        if "webhook" in row:
            secrets = row.get("webhook_secret", [])
            one["webhook"] = _origin(row["webhook"])
            one["webhook_secrets"] = 1 if isinstance(secrets, str) else len(secrets)
            one["webhook_networks"] = row.get("webhook_networks", [])
        told.append(one)
    if as_json:
        print(json.dumps({"platforms": told}, ensure_ascii=False))
        return
    for one in told:
        print(
            "  ".join(
                [one["id"], f"scope={shown(one['scope'])}", one["thumbprint"], one.get("webhook", "")]
            ).rstrip()
        )
    print(f"{len(told)} 个平台 · {len(told)} platforms")
