"""Editions of the trust list as an operator makes them: read, put together from what parties hand in, judged, written.

What is signed is believed by everybody who pins the federation's key, for years. So nothing becomes an edition that builds on a
list somebody else has signed or altered, that is older than the list in place, or in which one key, or the name of one log,
belongs to two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from federation.suites import INTL
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import thumbprint
from federation.suites.registry import suite
from federation.tlog.note import VerifierKey
from federation.trust import MOST_BYTES, Role, TrustedKey, TrustList, Use, sign_list
from federation.verify import strict_json
from federation.verify.report import TEXTS, VerifyError, rfc3339
from gateway.lists.files import ListError, is_plain, read_file, shown

Tree = dict[str, Any]
"""A list, or a part of it, as JSON has it."""

_FIELDS = {
    Role.ARCHIVE: ("archives", "code"),
    Role.GATEWAY: ("gateways", "name"),
    Role.WITNESS: ("witnesses", "name"),
    Role.TSA: ("tsas", "name"),
}
"""Where parties of a role stand in the list, and what they are known by."""

_USES = {
    Role.ARCHIVE: {Use.CREDENTIAL, Use.SEAL, Use.STATUS, Use.LOG, Use.WITNESS, Use.DELIVERY},
    Role.GATEWAY: {Use.LOG},
    Role.WITNESS: {Use.WITNESS},
    Role.TSA: {Use.TSA},
}
"""What a party of a role needs keys for. A key for time stamps counts whoever's it is, so no archive may bring one."""

_LARGEST_ENTRY = 1 << 20
"""Bytes of what a party hands in; five keys and a certificate take 9 KB."""


@dataclass(frozen=True, slots=True)
class Edition:
    """A list as it stands in a file, and what it says."""

    tree: Tree
    list: TrustList

    @classmethod
    def parse(cls, content: bytes, path: Path, key: PublicKey | None = None) -> Edition:
        """What is in a file; with a key it must be signed by that. ListError says what is wrong."""
        try:
            return cls(
                strict_json.load_object(content, most=MOST_BYTES), TrustList.load(content, signed_by=key)
            )
        except VerifyError as error:
            raise _words(path, error) from error

    @classmethod
    def read(cls, path: Path, key: PublicKey | None = None) -> Edition:
        """The same of a list that may bear no signature; one that is there must be by the key."""
        content = read_file(path, MOST_BYTES)
        edition = cls.parse(content, path)
        if edition.is_signed and key is not None:
            try:
                TrustList.load(content, signed_by=key)
            except VerifyError as error:
                raise ListError(
                    f"{path}: 不是由此密钥签署，或签署后被改动 · it was not signed by this key, or was altered since"
                ) from error
        return edition

    @property
    def is_signed(self) -> bool:
        return "signature" in self.tree

    @property
    def unsigned(self) -> Tree:
        """A copy to be changed or signed."""
        tree: Tree = json.loads(json.dumps(self.tree))
        tree.pop("signature", None)
        return tree

    @property
    def content(self) -> Tree:
        """What of it is no matter of when and by whom it was made."""
        left_out = {"signature", "epoch", "issued_at"}
        return {key: value for key, value in self.tree.items() if value != [] and key not in left_out}


def written(tree: Tree, key: PrivateKey | None) -> bytes:
    """The file of an edition, signed where there is a key."""
    signed = tree if key is None else sign_list(tree, key)
    return (json.dumps(signed, ensure_ascii=False, indent=1) + "\n").encode()


def begun(federation: str) -> Tree:
    """A list of nobody, before its first edition."""
    tree: Tree = {"version": 1, "federation": federation, "epoch": 0, "issued_at": now()}
    return tree | {field: [] for field, _identity in _FIELDS.values()}


def signable(before: Edition | None, draft: Edition, path: Path) -> Tree | None:
    """The draft as it may be signed in place of `before`; None where that says the same and is signed."""
    if before is None:
        return draft.unsigned | {"issued_at": now()}
    if before.content == draft.content:
        return None if before.is_signed else before.unsigned
    mine, theirs = before.list, draft.list
    if theirs.federation != mine.federation:
        raise ListError(
            f"{path}: 属于联合体 {theirs.federation} · it is of the federation {theirs.federation}, not {mine.federation}"
        )
    if theirs.epoch <= mine.epoch:
        raise ListError(
            f"{path}: 第 {theirs.epoch} 版不新于现行的第 {mine.epoch} 版，请以现行名录重做"
            f" · edition {theirs.epoch} is not newer than the one in place, {mine.epoch}: begin again from that"
        )
    return draft.unsigned | {"issued_at": now()}


def now() -> str:
    """The time of day, as the list writes it."""
    return rfc3339(datetime.now(UTC))


def _words(path: Path, error: VerifyError) -> ListError:
    text = TEXTS[error.reason]
    return ListError(f"{path}: {text.zh} · {text.en}: {error.detail}")


# parties -------------------------------------------------------------------------------------------------------------


def party(tree: Tree, party_id: str) -> tuple[list[Tree], Tree]:
    """A party of the list, and all of its role."""
    for field, identity in _FIELDS.values():
        for one in tree.get(field) or ():
            if one[identity] == party_id:
                return tree[field], one
    raise ListError(f"名录中没有 {shown(party_id)} · there is no {shown(party_id)} on the list")


def entry(path: Path, role: Role) -> Tree:
    """What a party handed in, read as the list is read. ListError where it holds a private key, or is no entry of a party."""
    content = read_file(path, _LARGEST_ENTRY)
    try:
        found = strict_json.load_object(content, most=_LARGEST_ENTRY)
    except VerifyError as error:
        raise _words(path, error) from error
    if _has_private(content, found):
        raise ListError(
            f"{path}: 其中有私钥，不应交出：请另换一把，只交 lantai-node keys show 所印的内容"
            " · it holds a private key, which nobody may give away: have another one made, and hand in what lantai-node keys show prints"
        )
    field, identity = _FIELDS[role]
    name = found.get(identity)
    if not isinstance(name, str) or (role is Role.ARCHIVE and not re.fullmatch(r"[0-9]{6}", name)):
        wanted = "六位区划代码 · a six-digit division code" if role is Role.ARCHIVE else "名称 · a name"
        raise ListError(f"{path}: {identity} 应为 · must be {wanted}")
    alone = {"version": 1, "federation": "-", "epoch": 0, "issued_at": now(), field: [found]}
    read = Edition.parse(json.dumps(alone).encode(), path).list.parties[name]
    if not read.keys:
        raise ListError(f"{path}: 没有密钥 · it has no keys")
    if not all(is_plain(text) for text in (read.id, read.name, *read.keys)):
        raise ListError(f"{path}: 名称含控制字符 · a name in it holds control characters")
    return found


def _has_private(content: bytes, found: Tree) -> bool:
    keys = found.get("keys")
    jwks = [one.get("jwk") for one in keys if isinstance(one, dict)] if isinstance(keys, list) else []
    return any(mark in content for mark in (b"PRIVATE KEY", b"PRIVATE+KEY")) or any(
        isinstance(jwk, dict) and jwk.keys() & {"d", "k"} for jwk in (*jwks, found)
    )


def add(tree: Tree, new: Tree, role: Role, path: Path) -> Tree:
    """Put an entry on the list, or its new keys to what the list has of that party; the party as it stands there then.

    What stands there stays as it was decided: `lantai-node keys show` proposes dates of today, and leaves out seals of before,
    by which older documents are verified. A second suite it proposes is not asked for (`ask_twice`).
    """
    field, identity = _FIELDS[role]
    new = {key: value for key, value in new.items() if key != "second_suite"}
    parties = tree.setdefault(field, [])
    listed: Tree | None = next((one for one in parties if one[identity] == new[identity]), None)
    if listed is None:
        parties.append(new)
        return new
    there = {key["id"]: key for key in listed.setdefault("keys", [])}
    for key in new["keys"]:
        same = [one["id"] for one in there.values() if _material(one) == _material(key)]
        if key["id"] in same or (same and "vkey" in key):
            continue
        if key["id"] in there and "vkey" not in key:
            raise ListError(
                f"{path}: {shown(key['id'])} 在名录中是另一把密钥 · {shown(key['id'])} is another key on the list"
            )
        # nobody names a log's or witness's key by its id here, and `keys show` gives that of a new log the id of the old one
        free = (f"{key['id']}-{number}" for number in count(2))
        named = key["id"] if key["id"] not in there else next(one for one in free if one not in there)
        there[named] = key | {"id": named}
        listed["keys"].append(there[named])
    listed["name"] = new["name"]
    return listed


def _material(key: Mapping[str, Any]) -> dict[str, Any]:
    return {part: key.get(part) for part in ("use", "suite", "alg", "jwk", "certificate", "vkey")}


def rename(one: Tree, name: str) -> None:
    """Give an archive another name."""
    if "code" not in one or not name or not is_plain(name):
        raise ListError(
            "--name: 只有馆在代码之外另有名称，不得为空或含控制字符"
            " · only an archive has one beside its code; it must not be empty or hold control characters"
        )
    one["name"] = name


def key_of(one: Tree, key_id: str) -> Tree:
    """A key of a party, to be changed."""
    for key in one.get("keys") or ():
        if key["id"] == key_id:
            found: Tree = key
            return found
    raise ListError(f"没有密钥 {shown(key_id)} · there is no key {shown(key_id)}")


def ask_twice(one: Tree, since: str) -> None:
    """Ask a party for second signatures from a time on; ListError where it has no keys for them."""
    suites = sorted({key["suite"] for key in one.get("keys") or () if key["suite"] != INTL})
    if len(suites) != 1:
        raise ListError("--second-suite-from: 没有第二套算法的密钥 · it has no keys of a second suite")
    one["second_suite"] = {"suite": suites[0], "from": since}


# judging -------------------------------------------------------------------------------------------------------------


def identity(key: TrustedKey) -> str:
    """The same for two keys of a list exactly if they are one."""
    try:
        return thumbprint(suite(key.suite).jwk(key.public))
    except VerifyError:  # this machine lacks the suite, then of both
        if key.vkey is not None:
            return VerifierKey.parse(key.vkey).public.hex()
        return json.dumps(key.jwk or key.certificate, sort_keys=True)


def check(before: TrustList | None, after: TrustList) -> None:
    """ListError where a party that is new or other than before has what is another's, or not of its role."""
    old = {} if before is None else before.parties
    fresh = {name for name, party in after.parties.items() if old.get(name) != party}
    owners: dict[str, TrustedKey] = {}
    names: dict[str, TrustedKey] = {}
    for key in (key for party in after.parties.values() for key in party.keys.values()):
        if key.issuer in fresh and key.use not in _USES[key.role]:
            raise ListError(
                f"{_label(key)}: {key.role} 不应有 {key.use} 密钥 · a party of this role has no such key: {key.use}"
            )
        other = owners.setdefault(identity(key), key)
        if (other.issuer, other.use) != (key.issuer, key.use) and {other.issuer, key.issuer} & fresh:
            raise ListError(
                f"{_label(key)} 与 {_label(other)} 是同一把密钥 · {_label(key)} and {_label(other)} are one key"
            )
        if key.vkey is not None:
            name = VerifierKey.parse(key.vkey).name
            other = names.setdefault(name, key)
            if other.issuer != key.issuer and {other.issuer, key.issuer} & fresh:
                raise ListError(
                    f"{_label(key)}: 日志名 {shown(name)} 属于 {other.issuer} · the name {shown(name)} is of a log or witness of {other.issuer}"
                )


def _label(key: TrustedKey) -> str:
    return f"{shown(key.issuer)[1:-1]} {shown(key.id)[1:-1]}"
