"""Feeds: ordered events under a key, which any number of readers in any process follow from any point.

A feed is a Valkey stream, so a reader that reconnects loses nothing, and a reader may begin with the past.
Ids come from one clock for all feeds of a shard, which has a thread's and those of its runs, so that their
events have one order and a position in one of them is a position in all.
All readers of one event loop share one connection, or one for each shard of a cluster: the follower below
reads every feed that anybody follows and hands the entries out.

While Valkey, or the shard, is away a reader gets nothing and is told so by `Follower.is_connected`; it then
watches the database instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from langgraph_runtime_holdfast.limits import feed_bytes
from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS, ask, beside, place

logger = structlog.stdlib.get_logger(__name__)

EVENT: Final = b"e"
DATA: Final = b"d"
BEGINNING: Final = b"0-0"
PART: Final = b"part "
"""In a feed: the data of a control entry that counts what was told by now, so that a reader notices a gap."""
MAX_ENTRIES: Final = 50_000
_BLOCK_MS: Final = 5_000
_RECONNECT_SECONDS: Final = 0.25
_CANCEL_AGAIN_SECONDS: Final = 0.25

# One call, so that no other append can come between taking an id and using it. The clock never goes back,
# whatever the host's clock does.
_APPEND: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'ms') or '0')
if now > last then
    redis.call('HSET', KEYS[2], 'ms', string.format('%.0f', now), 'next', 0)
else
    now = last
end
local function append(event, data)
    local function add(as)
        return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], as, 'e', event, 'd', data)
    end
    local next = redis.call('HINCRBY', KEYS[2], 'next', 1)
    local added = add(string.format('%.0f-%d', now, next - 1))
    -- A clock that was lost (a failover) may lag behind the feed, which then counts for itself.
    if type(added) == 'table' and added.err then
        added = add('*')
    end
    return added
end
-- Whenever another eighth of the bytes that a feed may have is full, this is marked, and what lies before the
-- mark after which there is a whole feed goes.
local full = math.floor(tonumber(redis.call('HGET', KEYS[3], 'bytes') or '0') * 8 / tonumber(ARGV[4]))
if full > 0 then
    redis.call('HSET', KEYS[3], 'bytes', 0)
    local part = redis.call('HINCRBY', KEYS[3], 'parts', 1)
    local mark = append('control', 'part ' .. part)
    if type(mark) == 'table' and mark.err then
        return mark
    end
    local ends = redis.call('HINCRBY', KEYS[3], 'eighths', full)
    redis.call('HSET', KEYS[3], 'end:' .. part, ends, 'mark:' .. part, mark)
    local oldest = tonumber(redis.call('HGET', KEYS[3], 'oldest') or '1')
    while oldest < part and ends - tonumber(redis.call('HGET', KEYS[3], 'end:' .. oldest)) >= 8 do
        local gone = redis.call('HGET', KEYS[3], 'mark:' .. oldest)
        local trimmed = redis.call('XTRIM', KEYS[1], 'MINID', gone) + redis.call('XDEL', KEYS[1], gone)
        redis.call('HINCRBY', KEYS[3], 'trimmed', trimmed)
        redis.call('HDEL', KEYS[3], 'end:' .. oldest, 'mark:' .. oldest)
        oldest = oldest + 1
        redis.call('HSET', KEYS[3], 'oldest', oldest, 'gone', gone)
    end
end
local first = 8
local least = tonumber(ARGV[3])
if least > 0 then
    local trimmed = tonumber(redis.call('HGET', KEYS[3], 'trimmed') or '0')
    if redis.call('XLEN', KEYS[1]) + trimmed < least then
        first = 6
    end
end
local added
for at = first, #ARGV, 2 do
    added = append(ARGV[at], ARGV[at + 1])
    if type(added) == 'table' and added.err then
        return added
    end
end
redis.call('HINCRBY', KEYS[3], 'bytes', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[2])
return added
"""

_followers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Follower]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a feed."""

    id: bytes
    """`milliseconds-sequence`, unique and rising over all feeds of a shard."""
    event: bytes
    data: bytes


async def append(feed: str, event: bytes, data: bytes, *, keep_seconds: int) -> bytes:
    """Add an event; the feed disappears `keep_seconds` after its last one.

    Raises:
        RedisError: Valkey is away; the event is lost to whoever listens.
    """
    entry_id: bytes = await ask(
        feed, lambda client: add_to(client, feed, event, data, keep_seconds=keep_seconds)
    )
    return entry_id


def add_to(
    client: Redis | Pipeline,
    feed: str,
    event: bytes,
    data: bytes,
    *,
    keep_seconds: int,
    most: int = MAX_ENTRIES,
) -> Any:
    """Do the same as a command of a client, to be awaited, or of a pipeline, to be executed with it.

    About `most` entries are kept, and HOLDFAST_FEED_MB of them; the oldest go.
    """
    return add_all_to(client, feed, [(event, data)], keep_seconds=keep_seconds, most=most)


def add_all_to(
    client: Redis | Pipeline,
    feed: str,
    entries: Sequence[tuple[bytes, bytes]],
    *,
    keep_seconds: int,
    most: int = MAX_ENTRIES,
    least: int = 0,
    if_fewer: tuple[bytes, bytes] = (b"", b""),
) -> Any:
    """Add several events, each an event and its data, with nothing between them.

    If the feed has fewer than `least` entries by then, because Valkey has lost some, `if_fewer` comes first.
    """
    arguments = [part for entry in entries for part in entry]
    size = sum(map(len, arguments))
    limits = (most, keep_seconds, least, feed_bytes(), size)
    return client.eval(_APPEND, 3, feed, _clock(feed), _measure(feed), *limits, *if_fewer, *arguments)


async def trimmed(feed: str) -> tuple[int, bytes]:
    """How many parts of a feed are full, and up to which id its entries are gone.

    Raises:
        RedisError: Valkey is away.
    """
    found: Any = await ask(feed, lambda client: client.hmget(_measure(feed), ["parts", "gone"]))
    parts, gone = found
    return int(parts or 0), gone or BEGINNING


async def now(feed: str) -> bytes:
    """The newest id of the shard's feeds: whatever is appended from now on, to any of them, comes after it.

    Raises:
        RedisError: Valkey is away.
    """
    answer: Any = await ask(feed, partial(_read_clock, feed=feed))
    milliseconds, following = answer
    return b"%b-%d" % (milliseconds, int(following) - 1) if milliseconds else BEGINNING


async def past(feed: str, after: bytes = BEGINNING) -> list[Entry]:
    """The entries that are there, after the given id.

    Raises:
        RedisError: Valkey is away.
    """
    begin = b"(" + after if after != BEGINNING else b"-"
    rows: Any = await ask(feed, lambda client: client.xrange(feed, min=begin))
    return [_entry(entry_id, fields) for entry_id, fields in rows]


async def past_of_all(positions: Mapping[str, bytes]) -> dict[str, list[Entry]]:
    """The entries of several feeds of a shard, each after its own position, as they are at one moment.

    Raises:
        RedisError: Valkey is away.
    """
    asked: Any = dict(positions)
    answer: Any = await ask(next(iter(asked)), lambda client: client.xread(asked))
    return {
        name.decode(): [_entry(entry_id, fields) for entry_id, fields in rows] for name, rows in answer or []
    }


async def last(feed: str) -> Entry | None:
    """The newest entry, if there is one.

    Raises:
        RedisError: Valkey is away.
    """
    rows: Any = await ask(feed, lambda client: client.xrevrange(feed, count=1))
    return _entry(*rows[0]) if rows else None


def _clock(feed: str) -> str:
    return beside(feed, "clock")


def _measure(feed: str) -> str:
    # A feed's key with something behind it: in the same slot of a cluster.
    return f"{feed}:measure"


def order(entry_id: bytes) -> tuple[int, int]:
    """What entries are sorted by."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or 0)


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(entry_id, fields.get(EVENT, b""), fields.get(DATA, b""))


MISSING: Final = Entry(b"", b"control", b"lost")
"""Stands where entries are missing."""


class EntryQueue(asyncio.Queue[Entry]):
    """What waits for a listener: not more bytes than a feed has. What does not fit is noted as missing."""

    _size_bytes = 0

    def _put(self, item: Entry) -> None:
        waiting: deque[Entry] = self._queue  # type: ignore[attr-defined]
        if waiting and item.data and self._size_bytes + len(item.data) > feed_bytes():
            if waiting[-1] is MISSING:
                return
            item = MISSING
        self._size_bytes += len(item.data)
        waiting.append(item)

    def _get(self) -> Entry:
        waiting: deque[Entry] = self._queue  # type: ignore[attr-defined]
        item = waiting.popleft()
        self._size_bytes -= len(item.data)
        return item


@dataclass(eq=False, slots=True)
class Reader:
    """One who follows a feed: entries arrive in `queue`."""

    feed: str
    position: bytes
    arrived: asyncio.Event
    """Set when entries have come; one who follows several feeds gives all its readers the same."""
    queue: EntryQueue = field(default_factory=EntryQueue)


class Follower:
    """Reads the feeds of one event loop, in a cluster those of one shard, over one connection."""

    def __init__(self, feed: str) -> None:
        """Follow nothing yet; `feed` is one of those that it is for."""
        self.is_connected = False
        self.interruptions = 0
        self._readers: dict[str, set[Reader]] = {}
        self._positions: dict[str, bytes] = {}
        self._bell = beside(feed, "bell", uuid.uuid4())
        self._place = place(feed)
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def follow(
        self, feed: str, after: bytes, arrived: asyncio.Event | None = None
    ) -> AsyncIterator[Reader]:
        """Receive the entries of a feed after the given id, those of the past first."""
        reader = Reader(feed, after, arrived or asyncio.Event())
        self._join(reader)
        await self._ring()
        try:
            yield reader
        finally:
            # It may have been handed over.
            follower(feed)._leave(reader)

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            while not self._task.done():
                # The client loses a cancellation that meets it while it connects.
                self._task.cancel()
                await asyncio.wait([self._task], timeout=_CANCEL_AGAIN_SECONDS)
            self._task = None

    def _join(self, reader: Reader) -> None:
        self._readers.setdefault(reader.feed, set()).add(reader)
        # One position a feed serves all: whoever needs older entries has the feed read again from there,
        # and each reader leaves out what it has.
        position = self._positions.get(reader.feed, reader.position)
        self._positions[reader.feed] = min(position, reader.position, key=order)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_on())

    def _leave(self, reader: Reader) -> None:
        readers = self._readers.get(reader.feed, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(reader.feed, None)
            self._positions.pop(reader.feed, None)

    def _hand_over(self) -> None:
        """Leave the readers to the followers of their shards: Valkey has turned out to be a cluster."""
        readers, self._readers, self._positions = self._readers, {}, {}
        for reader in (each for feed in readers.values() for each in feed):
            follower(reader.feed)._join(reader)

    async def _ring(self) -> None:
        # The read in flight does not know the new feed; an entry in a feed of its own ends it.
        with contextlib.suppress(*VALKEY_ERRORS):
            await append(self._bell, b"new", b"", keep_seconds=60)

    async def _read_on(self) -> None:
        bell = BEGINNING
        while True:
            if place(self._bell) != self._place:
                self._hand_over()
                return
            asked: Any = {self._bell: bell, **self._positions}
            try:
                answer: Any = await ask(self._bell, partial(_read, positions=asked))
            except VALKEY_ERRORS as error:
                if self.is_connected:
                    await logger.awarning("Valkey is away: streams wait for it", error=str(error))
                self.is_connected = False
                self.interruptions += 1
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            self.is_connected = True
            for name, rows in answer or []:
                feed = name.decode()
                if feed == self._bell:
                    bell = rows[-1][0]
                else:
                    self._hand_out(feed, asked[feed], rows)

    def _hand_out(self, feed: str, asked: bytes, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        # Who came while this was being read, and wants older entries, waits for the next read.
        readers = [one for one in self._readers.get(feed, ()) if order(asked) <= order(one.position)]
        for entry_id, fields in rows:
            entry = _entry(entry_id, fields)
            for reader in readers:
                if order(reader.position) < order(entry_id):
                    reader.position = entry_id
                    reader.queue.put_nowait(entry)
        for reader in readers:
            reader.arrived.set()
        if feed in self._positions:
            lowest = min((reader.position for reader in self._readers[feed]), key=order)
            self._positions[feed] = max(lowest, BEGINNING, key=order)


async def _read_clock(client: Redis, feed: str) -> Any:
    command: Any = client.hmget(_clock(feed), ["ms", "next"])
    return await command


async def _read(client: Redis, positions: dict[Any, Any]) -> Any:
    return await client.xread(positions, block=_BLOCK_MS)


def follower(feed: str) -> Follower:
    """This loop's follower of a feed."""
    of_loop = _followers.setdefault(asyncio.get_running_loop(), {})
    found = of_loop.get(place(feed))
    if found is None:
        found = of_loop[place(feed)] = Follower(feed)
    return found


async def close_follower() -> None:
    """Stop this loop's followers; a loop of jobs calls it before it ends."""
    for found in _followers.pop(asyncio.get_running_loop(), {}).values():
        await found.close()
