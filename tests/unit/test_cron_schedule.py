"""Schedules with seconds: taken where the scheduler can keep them."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.ops.cron_schedule import next_date


@pytest.mark.parametrize(
    ("schedule", "looks_every", "refusal"),
    [
        ("* * * * *", 5, None),
        ("* * * * * 30", 5, None),
        ("* * * * * */10", 5, None),
        ("* * * * * *", 1, None),
        ("* * * * * *", 5, "its dates are 1 s apart, and the scheduler looks every 5 s"),
        ("* * * * * */7", 5, "its dates are 4 s apart"),
        ("0 0 1 1 * 0 2030", 5, "a seventh field, the year"),
    ],
)
def test_the_scheduler_must_be_able_to_keep_it(
    monkeypatch: pytest.MonkeyPatch, schedule: str, looks_every: int, refusal: str | None
) -> None:
    # The stock server asks for it as it is imported; nothing here connects to it.
    monkeypatch.setenv("REDIS_URI", "redis://127.0.0.1:1")
    monkeypatch.setattr("langgraph_api.config.CRON_SCHEDULER_SLEEP_TIME", looks_every)
    if refusal is None:
        next_date(schedule, None)
        return
    with pytest.raises(HTTPException) as told:
        next_date(schedule, None)
    assert told.value.status_code == 422
    assert refusal in told.value.detail
