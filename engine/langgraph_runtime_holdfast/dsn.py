"""Database addresses as people have them, made into what libpq takes, and told wrong without the password."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from langgraph_runtime_holdfast.errors import EngineError

_SCHEME: Final = re.compile(r"^(postgres(?:ql)?)(\+\w+)?://", re.IGNORECASE)
WANTED: Final = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
CONNECTION_CURE: Final = "See that it runs, and that address, user and password in DATABASE_URI are right."

# What makes a dead peer noticed within seconds; what the address itself says has precedence.
_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "holdfast",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    # A pooled connection's check passes on a read-only standby too, so it is refused when it is opened.
    "target_session_attrs": "read-write",
}


def libpq_dsn(address: str, *, variable: str = "DATABASE_URI") -> str:
    """Make a connection string for libpq.

    Takes URLs with SQLAlchemy's driver suffix (`+asyncpg`, `+psycopg`, `+psycopg2`) and asyncpg's `ssl`
    parameter, several hosts, and every libpq parameter.

    Args:
        address: A URL, or libpq's own `host=… dbname=…` form.
        variable: The environment variable it came from, for the message.

    Raises:
        EngineError: It is not an address libpq can use; the message never shows the password.
    """
    address = address.strip()
    if not address:
        raise EngineError(f"{variable} is empty. Write it as {WANTED}.")
    scheme = _SCHEME.match(address)
    if "://" in address and scheme is None:
        name = address.split("://", 1)[0][:20]
        raise EngineError(f"{variable} begins with {name}://, not with postgresql://. Write it as {WANTED}.")
    if scheme is not None:
        address = f"postgresql://{address[scheme.end() :]}"
        if scheme[2]:
            address = _translate_driver_parameters(address)
    try:
        given = conninfo_to_dict(address)
        return make_conninfo(address, **{k: v for k, v in _DEFAULTS.items() if k not in given})
    except psycopg.ProgrammingError as error:
        raise EngineError(
            f"{variable} is not an address that Postgres takes ({_reason(error, address)}). "
            f"Write it as {WANTED}; percent-encode special characters of the password."
        ) from None


def described(dsn: str) -> str:
    """Say where an address leads, for messages and logs: hosts, ports and database, no user, no password."""
    parts = conninfo_to_dict(dsn)
    hosts = str(parts.get("host") or parts.get("hostaddr") or "the local socket").split(",")
    ports = str(parts.get("port") or 5432).split(",")
    where = ", ".join(f"{host}:{ports[min(i, len(ports) - 1)]}" for i, host in enumerate(hosts))
    return f"{where}, database {parts.get('dbname') or parts.get('user') or 'default'}"


def _translate_driver_parameters(address: str) -> str:
    base, question, query = address.partition("?")
    if not question:
        return address
    # asyncpg calls sslmode `ssl`; libpq would refuse the address because of the name.
    pairs = [("sslmode" if key == "ssl" else key, value) for key, value in parse_qsl(query)]
    return f"{base}?{urlencode(pairs)}"


def _reason(error: psycopg.ProgrammingError, address: str) -> str:
    # libpq quotes the part it stumbled over, which may be the password or a piece of it.
    text = " ".join(str(error).split())
    return re.sub(r'"[^"]*"|\'[^\']*\'', "…", text.replace(address, "…"))
