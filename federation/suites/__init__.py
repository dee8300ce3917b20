"""Crypto suites: which algorithms belong together. A key belongs to one suite for ever, and the trust list says to which."""

from __future__ import annotations

INTL, SM = "intl-1", "sm-1"

ALGORITHMS: dict[str, frozenset[str]] = {
    INTL: frozenset({"ES256", "Ed25519"}),
    SM: frozenset({"SM2"}),
}
"""Signature algorithms of each suite, by the names keys carry (RFC 7518, RFC 9864; SM2 has no registered name)."""
