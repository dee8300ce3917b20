"""The archives' status lists, fetched while they are young, believed only as their keys allow, and served to anyone.

An archive that is asked for a second suite is believed by its CWT, which bears both signatures; its JWT is passed on to
verifiers that know the first suite alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from federation.reasons import Refusal
from federation.trust import TrustList, Use
from federation.verify.report import VerifyError
from federation.verify.status_lists import StatusLists
from gateway.evidence.witnesses import Objects

REFRESH_S = 300.0
"""How long a list may be served before it is fetched again: a third of an hour's ttl passes at most."""

JWT, CWT = "application/statuslist+jwt", "application/statuslist+cwt"
"""Media types of the two forms (Token Status List)."""

_OBJECTS = {JWT: "status/list", CWT: "status/list.cwt"}
_AGAIN_S = 15.0
LARGEST_LIST = 1 << 20


class StatusKeeper:
    """Keeps one list of each archive that signs any. `run` until cancelled; `sources` is what verifying looks at."""

    def __init__(self, trust: TrustList, lists: Objects, folder: Path | None = None) -> None:
        """In `folder` the lists outlive the process, so that an archive's last word is known while it is away; what lies there
        is believed as what is fetched is, by its signature.
        """
        self.sources = StatusLists(trust)
        self._folder = folder
        self._archives = sorted({key.issuer for key in trust.keys(Use.STATUS)})
        self._lists = lists
        self._forms = {
            archive: (JWT,) if trust.parties[archive].second_suite is None else (CWT, JWT)
            for archive in self._archives
        }
        self._tokens: dict[tuple[str, str], bytes] = {}
        self._recall()
        self._due: dict[str, float] = dict.fromkeys(self._archives, 0.0)
        self._wake = asyncio.Event()

    def token(self, archive: str, form: str = "") -> tuple[bytes, str] | None:
        """The newest list of an archive as it signed it, and its media type: `form`, or the one that is believed here."""
        chosen = form or self._forms.get(archive, (JWT,))[0]
        token = self._tokens.get((archive, chosen))
        return None if token is None else (token, chosen)

    def refresh(self, archives: Iterable[str]) -> None:
        """Fetch these now: an archive connected, or said that it revoked something."""
        for archive in archives:
            if archive in self._due:
                self._due[archive] = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for archive in [one for one in self._archives if self._due[one] <= loop.time()]:
                is_fresh = await self._fetch(archive)
                self._due[archive] = loop.time() + (REFRESH_S if is_fresh else _AGAIN_S)
            pause = min(self._due.values(), default=loop.time() + REFRESH_S) - loop.time()
            try:
                async with asyncio.timeout(max(0.05, pause)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _fetch(self, archive: str) -> bool:
        """Whether a list came and is believed; what is not stays out, the older list goes on until it is too old."""
        believed, *others = self._forms[archive]
        try:
            token = await self._lists.fetch(archive, _OBJECTS[believed], LARGEST_LIST)
            self.sources.add(_read(token, believed), issuer=archive)
            await self._keep(archive, believed, token)
            for form in others:
                token = await self._lists.fetch(archive, _OBJECTS[form], LARGEST_LIST)
                self.sources.check_signer(_read(token, form), archive)
                await self._keep(archive, form, token)
        except (Refusal, VerifyError, UnicodeDecodeError):
            return False
        return True

    async def _keep(self, archive: str, form: str, token: bytes) -> None:
        self._tokens[archive, form] = token
        path = self._path(archive, form)
        if path is not None:
            with contextlib.suppress(OSError):  # it is fetched again after a restart
                await asyncio.to_thread(_write, path, token)

    def _recall(self) -> None:
        """What an earlier process kept, as far as it is believed now."""
        for archive, forms in self._forms.items():
            for form in forms:
                path = self._path(archive, form)
                if path is None:
                    continue
                with contextlib.suppress(OSError, VerifyError, UnicodeDecodeError):
                    with path.open("rb") as file:
                        token = file.read(LARGEST_LIST)
                    if form == forms[0]:
                        self.sources.add(_read(token, form), issuer=archive)
                    else:
                        self.sources.check_signer(_read(token, form), archive)
                    self._tokens[archive, form] = token

    def _path(self, archive: str, form: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{archive}.{form.rpartition('+')[2]}"


def _write(path: Path, token: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(token)
    fresh.replace(path)


def _read(token: bytes, form: str) -> str | bytes:
    return token.decode("ascii") if form == JWT else token
