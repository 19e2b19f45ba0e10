"""The receiver's lines as objects: what is about a run has its ids."""

from __future__ import annotations

import json
import logging

from sdk_client.callbacks.log import JsonFormatter


def test_a_line_is_an_object_with_the_ids_it_names() -> None:
    record = logging.LogRecord(
        "receiver", logging.INFO, "", 0, 'a "%s" run_id=%s thread_id=%s', ("b", 1, 2), None
    )
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["level"]) == ('a "b" run_id=1 thread_id=2', "info")
    assert (line["run_id"], line["thread_id"]) == ("1", "2")


def test_what_failed_is_in_the_same_line() -> None:
    failed = (ValueError, ValueError("broken"), None)
    record = logging.LogRecord("receiver", logging.ERROR, "", 0, "no", (), failed)
    written = JsonFormatter().format(record)
    assert "\n" not in written
    assert "ValueError: broken" in json.loads(written)["exception"]
