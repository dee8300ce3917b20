"""The archives' status lists, fetched while they are young, believed only as their keys allow, and served to anyone.

An archive that is asked for a second suite is believed by its CWT, which bears both signatures; its JWT is passed on to
verifiers that know the first suite alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from federation.process.durable import put, remove_unfinished
from federation.reasons import Refusal
from federation.trust import TrustList, Use
from federation.verify.report import VerifyError
from federation.verify.status_lists import ForgottenError, StatusLists
from gateway.evidence.apart import Apart
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

    def __init__(
        self,
        trust: TrustList,
        lists: Objects,
        folder: Path | None = None,
        older: Callable[[str], None] = lambda _archive: None,
        forgetful: Callable[[str], None] = lambda _archive: None,
    ) -> None:
        """In `folder` the lists outlive the process, so that an archive's last word is known while it is away; what lies there
        is believed as what is fetched is, by its signature. `older` is told which archive gave a list older than the one at
        hand, `forgetful` which gave one that forgot revocations; neither is taken: what was revoked would be valid again.
        """
        self.sources = StatusLists(trust)
        self._folder = folder
        self._archives = sorted({key.issuer for key in trust.keys(Use.STATUS)})
        self._lists, self._older, self._forgetful = lists, older, forgetful
        self._forms = {
            archive: (JWT,) if trust.parties[archive].second_suite is None else (CWT, JWT)
            for archive in self._archives
        }
        self._tokens: dict[tuple[str, str], bytes] = {}
        # when the newest of a form not believed here was signed
        self._beside: dict[tuple[str, str], datetime] = {}
        self._recall()
        self._due = {archive: asyncio.Event() for archive in self._archives}
        self._apart = Apart("fetch status lists")

    def token(self, archive: str, form: str = "") -> tuple[bytes, str] | None:
        """The newest list of an archive as it signed it, and its media type: `form`, or the one that is believed here."""
        chosen = form or self._forms.get(archive, (JWT,))[0]
        token = self._tokens.get((archive, chosen))
        return None if token is None else (token, chosen)

    def refresh(self, archives: Iterable[str]) -> None:
        """Fetch these now: an archive connected, or said that it revoked something."""
        for archive in archives:
            if archive in self._due:
                self._due[archive].set()

    async def run(self) -> None:
        """Keep each archive's list young, until cancelled; none waits for another one's answer."""
        await self._apart.run(self._archives, self._keep_young)

    async def _keep_young(self, archive: str) -> None:
        while True:
            self._due[archive].clear()  # a change that is told while the list comes is fetched after it
            pause = REFRESH_S if await self._fetch(archive) else _AGAIN_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due[archive].wait()

    async def _fetch(self, archive: str) -> bool:
        """Whether a list came in time and is believed; what is not stays out, the list at hand goes on until it is too old."""
        try:
            async with self._apart.answer():
                return await self._take_in(archive)
        except ForgottenError:
            self._forgetful(archive)
        except (Refusal, VerifyError, UnicodeDecodeError, TimeoutError):
            pass
        return False

    async def _take_in(self, archive: str) -> bool:
        """Whether all forms are as new as those at hand; the first one that is not ends it."""
        for form in self._forms[archive]:
            token = await self._lists.fetch(archive, _OBJECTS[form], LARGEST_LIST)
            if not self._takes(archive, form, token):
                self._older(archive)
                return False
            await self._keep(archive, form, token)
        return True

    def _takes(self, archive: str, form: str, token: bytes) -> bool:
        """Take a list of an archive unless it is older than the one at hand. VerifyError when it is not to be believed."""
        if form == self._forms[archive][0]:
            if not self.sources.add(_read(token, form), issuer=archive):
                return False
        else:
            signed_at = self.sources.check_signer(_read(token, form), archive)
            if signed_at < self._beside.get((archive, form), signed_at):
                return False
            self._beside[archive, form] = signed_at
        self._tokens[archive, form] = token
        return True

    async def _keep(self, archive: str, form: str, token: bytes) -> None:
        path = self._path(archive, form)
        if path is not None:
            with contextlib.suppress(OSError):  # it is fetched again after a restart
                await asyncio.to_thread(_write, path, token)

    def _recall(self) -> None:
        """What an earlier process kept, as far as it is believed now."""
        if self._folder is not None:
            remove_unfinished(self._folder)
        for archive, forms in self._forms.items():
            for form in forms:
                path = self._path(archive, form)
                if path is None:
                    continue
                with contextlib.suppress(OSError, VerifyError, UnicodeDecodeError):
                    with path.open("rb") as file:
                        token = file.read(LARGEST_LIST)
                    self._takes(archive, form, token)

    def _path(self, archive: str, form: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{archive}.{form.rpartition('+')[2]}"


def _write(path: Path, token: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, token, 0o600)


def _read(token: bytes, form: str) -> str | bytes:
    return token.decode("ascii") if form == JWT else token
