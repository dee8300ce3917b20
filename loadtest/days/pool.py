"""Reviewers in virtual time: a few people who take what they have noticed, first noticed first, while on duty."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count

Work = Callable[[], Awaitable[None]]

_NOW_S = 0.0005
"""Less than a journal can tell; a virtual loop rounds its sleeps."""


class Pool:
    """`people` reviewers. `off_duty_s(now)` gives the seconds until somebody is on duty, 0 = now."""

    def __init__(self, people: int, off_duty_s: Callable[[float], float], now_s: Callable[[], float]) -> None:
        self._off_duty_s, self._now_s = off_duty_s, now_s
        self._waiting: list[tuple[float, int, Work]] = []
        self._order = count()
        self._news = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"reviewer {number}") for number in range(people)
        ]

    def offer(self, noticed_s: float, work: Work) -> None:
        """`work` is begun by the first free reviewer after `noticed_s`; it may find that somebody else was first."""
        heapq.heappush(self._waiting, (noticed_s, next(self._order), work))
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _work(self) -> None:
        while True:
            news = self._news
            if not self._waiting:
                await news.wait()
                continue
            now = self._now_s()
            pause = max(self._waiting[0][0] - now, self._off_duty_s(now))
            if pause <= _NOW_S:
                await heapq.heappop(self._waiting)[2]()
                continue
            try:
                async with asyncio.timeout(pause):
                    await news.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
