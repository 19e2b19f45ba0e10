"""Which run, thread and request a line of the log is about.

The stock server names them in what a worker logs. Here the rest gets them: the access log, whose lines have
them in the path or in the answer only, and what is done for a run outside its worker.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Final
from uuid import UUID

_CREATED: Final = re.compile(r"/(?:threads/(?P<thread_id>[0-9a-f-]{36})/)?runs/(?P<run_id>[0-9a-f-]{36})")
_IDS: Final = ("run_id", "thread_id")


def name_run(run_id: UUID | str, thread_id: UUID | str, request_id: str | None) -> None:
    """Have all that this task logs from now on name a run."""
    from langgraph_api.logging import set_logging_context

    ids = {"run_id": str(run_id), "thread_id": str(thread_id)}
    set_logging_context(ids if request_id is None else {**ids, "request_id": request_id})


def make_request_id_readable(headers: list[tuple[bytes, bytes]]) -> None:
    """Escape what is no UTF-8 in a caller's id: the stock server would end the request with 500 for it."""
    for at, (name, value) in enumerate(headers):
        if name == b"x-request-id":
            headers[at] = (name, value.decode("utf-8", "backslashreplace").encode())


def name_requests() -> None:
    """Have the access log name runs and threads, from now on."""
    import structlog

    processors = structlog.get_config()["processors"]
    if _name_request not in processors:
        # In place: loggers that were used already have this very list. The last one hands on what there is.
        processors.insert(len(processors) - 1, _name_request)


def _name_request(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take the ids from a request's path, or from where its answer says that the run is."""
    if "path_params" not in line:
        return line
    found = dict(line["path_params"] or {})
    created = _CREATED.search((line.get("res_header") or {}).get("content-location", ""))
    if created is not None:
        found = {**created.groupdict(), **found}
    for name in _IDS:
        if found.get(name) and not line.get(name):
            line[name] = str(found[name])
    return line
