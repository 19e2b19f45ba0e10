"""Asks the API ten times a second, and tells when it was back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

_EVERY_SECONDS = 0.1
# An answer that takes longer is as good as none to whoever waits for it.
_PATIENCE_SECONDS = 2.0
_MOST_AT_ONCE = 40


@dataclass(frozen=True)
class Asked:
    """One question and what became of it."""

    began: float
    ended: float
    is_answered: bool
    what: str


class Probe:
    """`GET /ok?check_db=1` and the reading of a thread, again and again."""

    def __init__(self, url: str, thread_id: str) -> None:
        """Name the server and a thread that exists; nothing is asked yet."""
        self.asked: list[Asked] = []
        self._http = httpx.AsyncClient(
            base_url=url, transport=httpx.AsyncHTTPTransport(retries=0), timeout=_PATIENCE_SECONDS
        )
        self._paths = ("/ok?check_db=1", f"/threads/{thread_id}")
        self._under_way: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._ask_on())

    async def stop(self) -> None:
        """Wait for the answers that are under way, and ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._under_way, return_exceptions=True)
        await self._http.aclose()

    def back_after(self, moment: float) -> float | None:
        """From this moment to the first answer after which no question failed any more, in seconds.

        None: the last question failed, or none was asked since.
        """
        since = sorted((each for each in self.asked if each.began >= moment), key=lambda each: each.began)
        last_failure = max((each.began for each in since if not each.is_answered), default=moment - 1)
        answers = [each.ended for each in since if each.is_answered and each.began > last_failure]
        return min(answers) - moment if answers else None

    def unanswered(self, since: float) -> list[str]:
        """What was asked from this moment on and not answered within the patience, or with an error."""
        return [each.what for each in self.asked if each.began >= since and not each.is_answered]

    def slowest_answer(self, since: float) -> float:
        """The longest that an answer took, in seconds; the patience where one did not come."""
        return max((each.ended - each.began for each in self.asked if each.began >= since), default=0.0)

    async def _ask_on(self) -> None:
        while True:
            if len(self._under_way) < _MOST_AT_ONCE:
                for path in self._paths:
                    task = asyncio.create_task(self._ask(path))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(_EVERY_SECONDS)

    async def _ask(self, path: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                answer = await self._http.get(path)
            is_answered, what = answer.is_success, str(answer.status_code)
        except (httpx.HTTPError, TimeoutError) as error:
            is_answered, what = False, type(error).__name__
        self.asked.append(Asked(began, time.monotonic(), is_answered, f"{path} {what}"))
