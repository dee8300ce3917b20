"""Whether this archive's documents still stand: its signed status list, made anew when something changed or it grows old.

There are two forms of it. Everybody's verifier reads the JWT; the CWT has room for a signature of a second suite.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypedDict

from federation.credential.status_list import StatusList, sign_cwt, sign_jwt
from federation.suites.base import PrivateKey
from federation.verify.status import State
from node_agent.certificates.keys import NamedKey
from node_agent.certificates.registry import LIST_SIZE, Registry
from node_agent.certificates.store import CertificateStore, DocumentState

REFRESH = timedelta(minutes=30)
"""Age after which a list is signed anew, so that what verifiers hold stays young; the list itself says 24 hours."""

_STATES = {DocumentState.REVOKED: State.REVOKED, DocumentState.REPLACED: State.REPLACED}


class _Said(TypedDict):
    """What both forms say beside the entries, and who signs them."""

    uri: str
    key: PrivateKey
    key_id: str
    at: datetime
    successors: Mapping[int, str]


class Standing:
    """One archive's list at one address. Blocking; any thread may call."""

    def __init__(
        self,
        store: CertificateStore,
        registry: Registry,
        key: NamedKey,
        uri: str,
        now: Callable[[], datetime],
        *,
        second: tuple[PrivateKey, str] | None = None,
    ) -> None:
        """`second` is a key of another suite and its id, for the CWT."""
        self._store, self._registry, self._key, self.uri, self._now = store, registry, key, uri, now
        self._second = second
        self._lock = threading.Lock()
        self._entries = StatusList(LIST_SIZE, 2)
        self._successors: dict[int, str] = {}
        self._seen = 0
        self._forms: dict[str, bytes] = {}
        self._signed_at = datetime.min.replace(tzinfo=now().tzinfo)

    def token(self) -> bytes:
        """The list as it is now, as JWT."""
        return self._as("jwt", self._jwt)

    def cwt(self) -> bytes:
        """The same as CWT, signed by both suites where the archive has keys of two."""
        return self._as("cwt", self._cwt)

    def _as(self, form: str, sign: Callable[[], bytes]) -> bytes:
        with self._lock:
            self._take_in()
            now = self._now()
            # one from before a clock was set back is of the future, and nobody takes it
            is_young = timedelta(0) <= now - self._signed_at < REFRESH
            if not self._forms or not is_young:
                self._forms.clear()
                self._signed_at = now
            if form not in self._forms:
                self._forms[form] = sign()
            return self._forms[form]

    def _take_in(self) -> None:
        """What changed since the last time. Read whole before any of it counts as seen: after a Refusal it is read again."""
        changes = self._store.changes(self._seen)
        if not changes:
            return
        read = [
            (index, new, successor)
            for _seq, _at, number, state, _reason, successor in changes
            if (new := _STATES.get(DocumentState(state))) is not None
            for index in self._registry.indexes(number)
        ]
        self._forms.clear()
        for index, new, successor in read:
            self._entries.set(index, new)
            if successor:
                self._successors[index] = successor
        self._seen = changes[-1][0]

    def _jwt(self) -> bytes:
        return sign_jwt(self._entries, **self._said()).encode("ascii")

    def _cwt(self) -> bytes:
        return sign_cwt(self._entries, **self._said(), second=self._second)

    def _said(self) -> _Said:
        return {
            "uri": self.uri,
            "key": self._key.key,
            "key_id": self._key.id,
            "at": self._signed_at,
            "successors": self._successors,
        }
