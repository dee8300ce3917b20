"""Who may use the desk: names, roles, tokens. Only the hash of a token is kept; it is shown once, when it is made."""

from __future__ import annotations

import hashlib
import re
import secrets

from federation.reasons import Reason, Refusal
from node_agent.desk.store import Store

ROLES: dict[str, tuple[str, str]] = {
    "reviewer": ("审核员", "reviewer: takes and decides cases"),
    "lead": ("值班负责人", "duty lead: also hands over what others hold"),
    "admin": ("管理员", "admin: also manages users"),
}
LEADS = frozenset({"lead", "admin"})

NOT_NAMES = frozenset({"gateway", "clock", "rule", "issuer", "deputy"})
"""Who else acts at a desk: no person may be called so."""

_PREFIX = "lantai-desk-"
_SECRET_BYTES = 32
_NAME = re.compile(r"[\w.\-·]{1,40}")


def is_name(text: str) -> bool:
    """Whether a user can be called so: letters, digits, characters, `_ . - ·`, 40 at most, and no space."""
    return _NAME.fullmatch(text) is not None and text not in NOT_NAMES


def add(store: Store, name: str, role: str, now_ms: int) -> str:
    """Make a user; the token. Refusal(OUT_OF_RANGE) for an unusable name or role, Refusal(TAKEN) when the name is in use."""
    if not is_name(name):
        raise Refusal(Reason.OUT_OF_RANGE, "/name")
    if role not in ROLES:
        raise Refusal(Reason.OUT_OF_RANGE, "/role")
    token, digest = _new_token()
    if not store.put_user(name, role, digest, now_ms):
        raise Refusal(Reason.TAKEN, "/name")
    return token


def renew_token(store: Store, name: str, now_ms: int) -> str:
    """Another token; the old one ends at once. Refusal(NOT_FOUND)."""
    token, digest = _new_token()
    if not store.change_token(name, digest, now_ms):
        raise Refusal(Reason.NOT_FOUND, "/name")
    return token


def remove(store: Store, name: str, now_ms: int) -> None:
    """End a user's access; what they did stays written. Refusal(NOT_FOUND)."""
    if not store.remove_user(name, now_ms):
        raise Refusal(Reason.NOT_FOUND, "/name")


def whose(store: Store, token: str) -> tuple[str, str]:
    """(name, role) of a token's user; Refusal(TOKEN_INVALID)."""
    found = store.user_of(_digest(token)) if token.startswith(_PREFIX) and len(token) < 200 else None
    if found is None:
        raise Refusal(Reason.TOKEN_INVALID)
    return found


def _new_token() -> tuple[str, bytes]:
    token = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return token, _digest(token)


def _digest(token: str) -> bytes:
    """SHA-256: a token has 256 bits of its own, so a slow hash would add nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
