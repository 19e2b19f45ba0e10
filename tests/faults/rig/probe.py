"""Asks the API ten times a second, and tells when it was back.

In a process of its own: that of the suite parses whatever its clients and its receiver of callbacks get, and
may be late itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict, dataclass

import httpx

_EVERY_SECONDS = 0.1
# An answer that takes longer is as good as none to whoever waits for it.
_PATIENCE_SECONDS = 2.0
_MOST_AT_ONCE = 40


@dataclass(frozen=True)
class Asked:
    """One question and what became of it; times are of the machine's monotonic clock."""

    began: float
    ended: float
    is_answered: bool
    what: str


class Probe:
    """`GET /ok?check_db=1` and the reading of a thread, again and again."""

    def __init__(self, url: str, thread_id: str) -> None:
        """Name the server and a thread that exists; nothing is asked yet."""
        self.asked: list[Asked] = []
        self._command = (sys.executable, "-m", __name__, url, f"/threads/{thread_id}")
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to ask."""
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        self._task = asyncio.create_task(self._take(self._process))

    async def stop(self) -> None:
        """Wait for the answers that are under way, and ask no more."""
        if self._process is not None and self._task is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._task
            await self._process.wait()
            self._process = None

    async def _take(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.asked.append(Asked(**json.loads(line)))

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


async def ask_on(url: str, thread: str) -> None:
    """Ask until standard input ends; each question and its outcome is a line of JSON."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    ending = asyncio.create_task(reader.read())
    under_way: set[asyncio.Task[None]] = set()
    transport = httpx.AsyncHTTPTransport(retries=0)
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=_PATIENCE_SECONDS) as http:
        while not ending.done():
            if len(under_way) < _MOST_AT_ONCE:
                for path in ("/ok?check_db=1", thread):
                    task = asyncio.create_task(_ask(http, path))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            await asyncio.wait({ending}, timeout=_EVERY_SECONDS)
        await asyncio.gather(*under_way)


async def _ask(http: httpx.AsyncClient, path: str) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            answer = await http.get(path)
        is_answered, what = answer.is_success, str(answer.status_code)
    except (httpx.HTTPError, TimeoutError) as error:
        is_answered, what = False, type(error).__name__
    asked = Asked(began, time.monotonic(), is_answered, f"{path} {what}")
    print(json.dumps(asdict(asked)), flush=True)


if __name__ == "__main__":
    asyncio.run(ask_on(*sys.argv[1:]))
