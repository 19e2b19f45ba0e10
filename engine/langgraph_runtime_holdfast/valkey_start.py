"""What is asked of Valkey before a server starts: whether it is one that this engine can use.

One that is away is no obstacle, since it is only a hint and will be back. One that is there, and will never
do what is asked of it, is refused: nobody would see more of it than streams that are empty.
"""

from __future__ import annotations

import re
import ssl
import uuid
from collections.abc import Iterator
from typing import Any, Final

import structlog
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from langgraph_runtime_holdfast import feed
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import (
    VALKEY_ERRORS,
    address,
    ask,
    is_cluster,
    key,
    note_cluster,
    sentinel,
    valkey,
)

logger = structlog.stdlib.get_logger(__name__)

OLDEST: Final = (6, 2)
_PASSING: Final = (BusyLoadingError, ClusterError, MasterDownError, OutOfMemoryError, TryAgainError)
_COMMANDS: Final = (
    *("ping", "info", "time", "eval", "hget", "hset", "hdel", "hincrby", "hmget", "expire"),
    *("xadd", "xdel", "xlen", "xread", "xrange", "xrevrange", "xtrim"),
)
_KEEP_SECONDS: Final = 10


def acl_line() -> str:
    """The rights that a user of this deployment needs, as the command that gives them."""
    of_here = {"cluster|slots": is_cluster(), "select": bool(address().database)}
    commands = " ".join(f"+{name}" for name in (*_COMMANDS, *(name for name in of_here if of_here[name])))
    return (
        f"ACL SETUSER holdfast on >PASSWORD resetkeys ~{settings().redis_key_prefix}* resetchannels"
        f" -@all {commands}"
    )


async def start_valkey() -> None:
    """Find out what Valkey is, and whether it can be used.

    Raises:
        EngineError: REDIS_URI is wrong, or the server will not do what is needed; one line with the cure.
    """
    address()
    try:
        await check_valkey()
    except VALKEY_ERRORS as error:
        await logger.awarning(
            "Valkey is away: runs go on, signals take up to a poll longer", error=str(error)
        )


async def check_valkey() -> dict[str, Any]:
    """Ask all that a start asks; returns what the server says of itself (INFO).

    Raises:
        EngineError: It cannot be used.
        RedisError, OSError, TimeoutError: It is away.
    """
    try:
        if address().kind == "sentinel":
            await _check_sentinels()
        info = await _ask_server()
        _check_version(info)
        await _check_mode(info)
        await _use_it()
    except _PASSING:
        raise
    except AuthenticationError as error:
        raise EngineError(
            f"Valkey refuses the user or the password in REDIS_URI: {_bare(error)}. Correct them there."
        ) from None
    except NoPermissionError as error:
        raise EngineError(
            f"Valkey refuses a right that is needed: {_bare(error)}. Give it: {acl_line()}"
        ) from None
    except ReadOnlyError:
        raise EngineError(
            "REDIS_URI names a replica, which takes no events. Name the primary, or the Sentinels:"
            " redis+sentinel://HOST,HOST/MASTER."
        ) from None
    except ResponseError as error:
        raise EngineError(
            f"Valkey refuses what is needed: {_bare(error)}. Use a Valkey, or Redis 6.2 or newer, with"
            " scripts and streams."
        ) from None
    except VALKEY_ERRORS as error:
        if (fault := _tls_fault(error)) is not None:
            raise EngineError(_about_tls(fault)) from None
        raise
    return info


async def _ask_server() -> dict[str, Any]:
    where = address()
    if where.kind == "cluster":
        name = key("start", "start")
        try:
            info: dict[str, Any] = await ask(name, lambda client: client.info("server"))
        except ClusterError:
            raise
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            raise EngineError(
                "Valkey is no cluster, and REDIS_URI or REDIS_CLUSTER says that it is one. Name its one host,"
                " and leave REDIS_CLUSTER out."
            ) from None
        return info
    try:
        return dict(await valkey().info("server"))
    except (*_PASSING, NoPermissionError):
        raise
    except ResponseError as error:
        if not where.database:
            raise
        raise EngineError(
            f"Valkey has no database {where.database}: {_bare(error)}. Leave it out of REDIS_URI (a cluster"
            " has only number 0), and set REDIS_KEY_PREFIX where deployments share a Valkey."
        ) from None


def _check_version(info: dict[str, Any]) -> None:
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        oldest = ".".join(str(part) for part in OLDEST)
        raise EngineError(f"Redis is version {version}; {oldest} or newer (or any Valkey) is needed.")


async def _check_mode(info: dict[str, Any]) -> None:
    mode = info.get("server_mode") or info.get("redis_mode")
    if mode == "sentinel":
        raise EngineError("REDIS_URI names a Sentinel. Write redis+sentinel://HOST,HOST,…/MASTER.")
    if mode != "cluster" or is_cluster():
        return
    where = address()
    if where.kind == "sentinel" or not where.nodes or where.database:
        raise EngineError(
            "Valkey is a cluster. Write REDIS_URI as redis://HOST:PORT, or several hosts with commas, and no"
            " database."
        )
    note_cluster()
    await logger.ainfo("Valkey is a cluster", node=f"{where.nodes[0][0]}:{where.nodes[0][1]}")


async def _use_it() -> None:
    """Do once what a server does all the time, in a feed that disappears at once."""
    name = key("start", "start", uuid.uuid4())
    await feed.append(name, b"start", b"", keep_seconds=_KEEP_SECONDS)
    await feed.now(name)
    await feed.past(name)
    await feed.past_of_all({name: feed.BEGINNING})
    await feed.last(name)
    await ask(name, lambda client: client.ping())


async def _check_sentinels() -> None:
    master = address().master
    for each in sentinel().sentinels:
        try:
            known: Any = await each.sentinel_masters()
        except AuthenticationError as error:
            raise EngineError(
                f"A Sentinel refuses the user or the password: {_bare(error)}. Add"
                " ?sentinel_username=…&sentinel_password=… to REDIS_URI."
            ) from None
        except ResponseError as error:
            raise EngineError(
                f"What REDIS_URI names is no Sentinel: {_bare(error)}. Name the Sentinels."
            ) from None
        except VALKEY_ERRORS as error:
            if _tls_fault(error) is not None:
                raise
            continue
        if master not in known:
            names = ", ".join(sorted(known)) or "none"
            raise EngineError(f"The Sentinels know no {master!r}, which REDIS_URI names; they know {names}.")
        return


def _bare(error: BaseException) -> str:
    """Its text without the full stop that some of the server's end with."""
    return str(error).rstrip(". ")


def _tls_fault(error: BaseException) -> ssl.SSLError | None:
    return next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _about_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"Valkey's certificate is not accepted: {error.verify_message}. Name its authority with"
            " ?ssl_ca_certs=FILE in REDIS_URI, or REDIS_TLS_CA_CERT."
        )
    if error.reason == "WRONG_VERSION_NUMBER":
        return "Valkey does not speak TLS at this port. Write redis:// instead of rediss://, or its TLS port."
    return f"TLS with Valkey fails: {error}. See REDIS_URI, and the log of Valkey."
