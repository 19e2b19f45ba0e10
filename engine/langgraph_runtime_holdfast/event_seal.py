"""Sealing of stream events, which Valkey keeps for a while, and may write to its disk.

The blob handlers of `encryption` may ask a key service, which is too slow for every token of an answer. So
events are sealed with a key of this process's own, and the handlers seal that key: once in a while for each
encryption context. The sealed key travels with every event, so whoever reads one needs nothing else.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from langgraph_runtime_holdfast.checkpoint_seal import open_blob, seal_blob, seals_blobs

_MARK: Final = b"\x00sealed1"
"""JSON never begins so."""
_LENGTH_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_KEY_SECONDS: Final = 900.0
_MOST_KEYS: Final = 1_000


class _Key(NamedTuple):
    sealed: bytes
    cipher: AESGCM
    until: float


_own: OrderedDict[bytes, _Key] = OrderedDict()
"""By encryption context."""
_others: OrderedDict[bytes, AESGCM] = OrderedDict()
"""By what the handlers made of them."""


async def seal_event(data: bytes) -> bytes:
    """Seal an event's data for Valkey, if langgraph.json names blob handlers."""
    if not seals_blobs():
        return data
    from langgraph_api.encryption.context import get_encryption_context

    key = await _own_key(get_encryption_context())
    nonce = os.urandom(_NONCE_BYTES)
    head = _MARK + len(key.sealed).to_bytes(_LENGTH_BYTES, "big") + key.sealed
    return head + nonce + key.cipher.encrypt(nonce, data, None)


async def open_event(data: bytes) -> bytes:
    """Open what `seal_event` has sealed; anything else stays as it is.

    Raises:
        EngineError: langgraph.json names no handler that could open it.
    """
    if not data.startswith(_MARK):
        return data
    begin = len(_MARK) + _LENGTH_BYTES
    end = begin + int.from_bytes(data[len(_MARK) : begin], "big")
    cipher = await _cipher(data[begin:end])
    return cipher.decrypt(data[end : end + _NONCE_BYTES], data[end + _NONCE_BYTES :], None)


async def _own_key(context: dict[str, Any]) -> _Key:
    name = orjson.dumps(context, option=orjson.OPT_SORT_KEYS)
    found = _own.get(name)
    if found is None or time.monotonic() > found.until:
        made = AESGCM.generate_key(256)
        found = _Key(await seal_blob(context, made), AESGCM(made), time.monotonic() + _KEY_SECONDS)
        _keep(_own, name, found)
        _keep(_others, found.sealed, found.cipher)
    return found


async def _cipher(sealed: bytes) -> AESGCM:
    found = _others.get(sealed)
    if found is None:
        found = AESGCM(await open_blob(sealed))
        _keep(_others, sealed, found)
    return found


def _keep(kept: OrderedDict[bytes, Any], name: bytes, value: Any) -> None:
    kept[name] = value
    if len(kept) > _MOST_KEYS:
        kept.popitem(last=False)
