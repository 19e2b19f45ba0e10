"""Where Valkey is: REDIS_URI in the forms that people use, read into what a connection takes.

Whatever would be dropped or misread without a word is refused here, by one line that shows no secret.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio.connection import (
    Connection,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from langgraph_runtime_holdfast.errors import EngineError

Kind = Literal["server", "cluster", "sentinel"]
Node = tuple[str, int]
"""A host and a port."""

FORMS: Final = (
    "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis://HOST,HOST,… for a cluster,"
    " redis+sentinel://HOST,HOST,…/MASTER[/DATABASE], each with rediss for TLS, or unix:///PATH"
)
_SCHEME: Final = re.compile(r"(rediss?)(?:\+(cluster|sentinel))?")
_PORTS: Final = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_SENTINELS_OWN: Final = {"sentinel_username": "username", "sentinel_password": "password"}
_TLS_OPTIONS: Final = frozenset(
    {
        *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers"),
    }
)
# What else the library would take, a decoding or another protocol say, would break what reads the answers.
_OPTIONS: Final = frozenset(
    {
        *("username", "password", "db", "client_name", "max_connections", "health_check_interval"),
        *("socket_timeout", "socket_connect_timeout"),
    }
)
_COMMON: Final[Mapping[str, Any]] = {
    "socket_connect_timeout": 2.0,
    "socket_timeout": 10.0,
    "health_check_interval": 15,
    # An old Redis refuses the newer protocol, and would look as if it were away.
    "protocol": 2,
    # A caller that can do without an answer must have the error now.
    "retry": Retry(NoBackoff(), 1),
    "max_connections": 500,
}


class TlsConnection(SSLConnection):
    """One of many with the same context; the library's would each read all authorities again, on the loop."""

    def __init__(self, *, tls: RedisSSLContext, **options: Any) -> None:
        """Use the context that was made with the address."""
        super().__init__(**options)
        self.ssl_context = tls


@dataclass(frozen=True)
class Address:
    """What REDIS_URI says."""

    kind: Kind
    nodes: tuple[Node, ...]
    """The server, some nodes of the cluster, or the Sentinels; none where it is a socket's path."""
    options: Mapping[str, Any]
    """Of a pool of connections to a server, without host and port."""
    sentinel_options: Mapping[str, Any]
    """Of a pool of connections to a Sentinel."""
    master: str = ""
    """What the Sentinels call the servers."""

    @property
    def database(self) -> int:
        """The database's number."""
        return int(self.options.get("db") or 0)


@functools.lru_cache(maxsize=8)
def read_address(
    uri: str,
    *,
    is_cluster: bool = False,
    ca_cert: str = "",
    max_connections: int | None = None,
    connect_timeout: float | None = None,
    health_check_interval: float | None = None,
) -> Address:
    """Read an address.

    Args:
        uri: REDIS_URI.
        is_cluster: REDIS_CLUSTER, the official image's way to say so.
        ca_cert: REDIS_TLS_CA_CERT, the certificate of an authority: PEM in base64.
        max_connections: REDIS_MAX_CONNECTIONS, where the address says nothing of it; so with the next two.
        connect_timeout: REDIS_CONNECT_TIMEOUT, in seconds.
        health_check_interval: REDIS_HEALTH_CHECK_INTERVAL, in seconds.

    Raises:
        EngineError: It cannot be used; one line that names what is wrong, never a password.
    """
    if not uri:
        raise EngineError("REDIS_URI is not set. Set it to redis://HOST:6379.")
    given = {
        "max_connections": max_connections,
        "socket_connect_timeout": connect_timeout,
        "health_check_interval": health_check_interval,
    }
    common = {**_COMMON} | {name: value for name, value in given.items() if value is not None}
    try:
        parts = urlsplit(uri)
        if parts.scheme == "unix":
            return _socket(uri, common, is_cluster=is_cluster)
        return _network(parts, common, is_cluster=is_cluster, ca_cert=ca_cert)
    except ValueError:
        # Its text may hold what was given.
        why = "a port or an option is no number, or something special in user or password is not %-encoded"
        raise _wrong(why) from None


def _socket(uri: str, common: Mapping[str, Any], *, is_cluster: bool) -> Address:
    if is_cluster:
        raise EngineError("REDIS_CLUSTER is set, and REDIS_URI is a socket. Name a host of the cluster.")
    read: dict[str, Any] = dict(parse_url(uri))
    if not read.get("path"):
        raise _wrong("unix:// comes without a path")
    _check_options(read, uses_tls=False)
    return Address("server", (), {**common, **read, "connection_class": UnixDomainSocketConnection}, {})


def _network(parts: SplitResult, common: Mapping[str, Any], *, is_cluster: bool, ca_cert: str) -> Address:
    if (scheme := _SCHEME.fullmatch(parts.scheme)) is None:
        raise _wrong("it begins with no scheme of Valkey's")
    user, _, hosts = parts.netloc.rpartition("@")
    kind = _kind(scheme[2], hosts, is_cluster=is_cluster)
    path, master = parts.path.strip("/"), ""
    if kind == "sentinel":
        master, _, path = path.partition("/")
        if not master:
            raise _wrong("the name by which the Sentinels know the servers is missing")
    if path and not path.isdecimal():
        raise _wrong("the database after the host is no number")
    # One host is enough for the library to read all but the hosts.
    read: dict[str, Any] = dict(parse_url(f"{scheme[1]}://{user}@x/{path}?{parts.query}"))
    read.pop("host")
    uses_tls = read.pop("connection_class", Connection) is SSLConnection
    own = {name: read.pop(given) for given, name in _SENTINELS_OWN.items() if given in read}
    _check_options(read, uses_tls=uses_tls)
    if own and kind != "sentinel":
        raise _wrong(f"{' and '.join(_SENTINELS_OWN)} are for redis+sentinel://")
    if kind == "cluster" and read.get("db"):
        raise EngineError(
            f"REDIS_URI names database {read['db']}, and a cluster has only number 0. Leave it out; set"
            " REDIS_KEY_PREFIX where deployments share the cluster."
        )
    if ca_cert:
        read["ssl_ca_data"] = _authority(ca_cert, uses_tls=uses_tls)
    common = {**common, "socket_keepalive": True, "connection_class": Connection}
    tls = {name: read.pop(name) for name in list(read) if name.startswith("ssl_")}
    if uses_tls:
        common |= {"connection_class": TlsConnection, "tls": _context(tls)}
    return Address(
        kind,
        _nodes(hosts, _PORTS[kind]),
        {**common, **read},
        {**common, **own, "max_connections": 20},
        unquote(master),
    )


def _kind(said: str | None, hosts: str, *, is_cluster: bool) -> Kind:
    if said == "sentinel":
        if is_cluster:
            raise EngineError("REDIS_CLUSTER is set, and REDIS_URI names Sentinels. Leave one of them out.")
        return "sentinel"
    return "cluster" if said == "cluster" or is_cluster or "," in hosts else "server"


def _nodes(hosts: str, port: int) -> tuple[Node, ...]:
    found = []
    for each in hosts.split(","):
        one = urlsplit(f"//{each.strip()}")
        if not one.hostname:
            raise _wrong("a host is missing")
        found.append((one.hostname, one.port or port))
    return tuple(found)


def _check_options(read: Mapping[str, Any], *, uses_tls: bool) -> None:
    for name in read.keys() - {"path", "connection_class"}:
        if name in _TLS_OPTIONS:
            if not uses_tls:
                raise _wrong(f"?{name} is for TLS, which rediss:// asks for")
        elif name not in _OPTIONS:
            raise _wrong(f"?{name} is not an option; these are: {', '.join(sorted(_OPTIONS | _TLS_OPTIONS))}")


def _authority(ca_cert: str, *, uses_tls: bool) -> str:
    if not uses_tls:
        raise EngineError("REDIS_TLS_CA_CERT is set, and REDIS_URI asks for no TLS. Write rediss:// there.")
    try:
        pem = base64.b64decode("".join(ca_cert.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        pem = ""
    if "BEGIN CERTIFICATE" not in pem:
        raise EngineError("REDIS_TLS_CA_CERT is no PEM in base64. Set it to the output of `base64 ca.pem`.")
    return pem


def _context(options: Mapping[str, Any]) -> RedisSSLContext:
    """Read what is named now, since each connection would fail later."""
    try:
        context = SSLConnection(**options).ssl_context
        context.get()
    except (OSError, ssl.SSLError, RedisError, ValueError) as error:
        named = ", ".join(sorted(options)) or "the system's authorities"
        raise EngineError(
            f"The TLS options of Valkey cannot be used ({named}): {error}. Name readable files in PEM."
        ) from None
    return context


def _wrong(why: str) -> EngineError:
    return EngineError(f"REDIS_URI cannot be used: {why}. Its forms: {FORMS}.")
