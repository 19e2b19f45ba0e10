"""When a cron fires: its schedule, time zone and end time, read and checked."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException

_LONGEST_SCHEDULE: Final = 200
_WITH_SECONDS: Final = 6
# A pattern of seconds comes round within a minute.
_DATES_LOOKED_AT: Final = 61


def next_date(schedule: str | None, timezone: str | None) -> datetime:
    """Compute when a cron fires next, in UTC.

    Raises:
        HTTPException: 422, the schedule, the time zone or both together are wrong, such as 30 February; or it
            would fire more often than the scheduler looks.
    """
    from langgraph_api import config
    from langgraph_api.utils import next_cron_date

    if timezone:
        _check_timezone(timezone)
    if not schedule:
        raise _wrong("", "no schedule")
    if len(schedule) > _LONGEST_SCHEDULE:
        raise _wrong(schedule, f"longer than {_LONGEST_SCHEDULE} characters")
    fields = len(schedule.split())
    if fields > _WITH_SECONDS:
        raise _wrong(
            schedule, "a seventh field, the year, would leave it without a date; set end_time instead"
        )
    dates: list[datetime] = [datetime.now(UTC)]
    try:
        for _ in range(_DATES_LOOKED_AT if fields == _WITH_SECONDS else 1):
            dates.append(next_cron_date(schedule, dates[-1], timezone=timezone))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _wrong(schedule, str(error).rstrip(".")) from None
    looks_every = config.CRON_SCHEDULER_SLEEP_TIME
    often = min(((later - date).total_seconds() for date, later in pairwise(dates[1:])), default=looks_every)
    if often < looks_every:
        raise _wrong(
            schedule, f"its dates are {often:g} s apart, and the scheduler looks every {looks_every} s"
        )
    return dates[1]


def as_moment(value: datetime | str | None) -> datetime | None:
    """Read an end time; one without a zone is in UTC.

    Raises:
        HTTPException: 422, it is no date and time.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise HTTPException(
                status_code=422, detail="Invalid end_time: must be an ISO 8601 date and time"
            ) from None
    if value is None or value.tzinfo is not None:
        return value
    return value.replace(tzinfo=UTC)


def _wrong(schedule: str, reason: str) -> HTTPException:
    return HTTPException(
        status_code=422,
        detail=(
            f"Invalid cron schedule: '{schedule[:_LONGEST_SCHEDULE]}'. Reason: {reason}. Give five fields: "
            "minute, hour, day of month, month, day of week, such as '*/5 * * * *' for every 5 minutes; a "
            "sixth one is the second."
        ),
    )


def _check_timezone(timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise HTTPException(
            status_code=422,
            detail=f"Invalid timezone: '{timezone[:100]}'. Use an IANA name, such as 'Europe/Amsterdam'.",
        ) from None
