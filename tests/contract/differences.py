"""Where an engine is known to differ from what the API documents: the whole list, each with its reason.

A test named here must fail on that engine, unless it is a race; one that passes has to leave the table.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """An engine, and why the test cannot pass on it."""

    engine: str
    reason: str
    is_race: bool = False
    """It may pass, too: on a machine that is not busy."""


CONTAINMENT = "compares lists for equality, where the API documents JSON containment"

DIFFERENCES: dict[str, Difference] = {
    "test_api_assistants.py::test_an_earlier_version_has_its_own_context": Difference(
        "dev", "keeps the latest context when an earlier version is set"
    ),
    "test_api_assistants.py::test_metadata_is_matched_by_containment": Difference("dev", CONTAINMENT),
    "test_api_threads.py::test_metadata_is_matched_by_containment": Difference("dev", CONTAINMENT),
    "test_api_threads.py::test_values_are_matched_by_containment_too": Difference(
        "dev", "answers 500 as soon as one thread has no values"
    ),
    "test_api_threads.py::test_prune_keeps_the_latest": Difference("dev", "refuses keep_latest with 422"),
    "test_api_state.py::test_history_before_a_checkpoint": Difference("dev", "answers 500 to a checkpoint"),
    "test_api_streams.py::test_every_event_has_an_id_of_its_own": Difference(
        "dev",
        "gives the same id to all events of a millisecond, so that a resumed stream misses some",
        is_race=True,
    ),
    "test_api_streams.py::test_joined_while_it_runs": Difference(
        "dev", "misses an event of the millisecond in which a listener joins", is_race=True
    ),
    "test_api_crons.py::test_not_after_its_end": Difference(
        "dev", "an end time stops every cron: the scheduler compares it as text with a date"
    ),
    "test_api_crons.py::test_without_a_schedule_it_is_refused": Difference("dev", "answers 500"),
    "test_api_store.py::test_threads_and_items_expire": Difference("dev", "has no expiry"),
    "test_api_auth.py::test_a_filter_that_the_server_does_not_understand_shows_nothing": Difference(
        "dev", "takes an unknown operator of an auth filter for a match"
    ),
    "test_approvals.py::test_a_run_cancelled_before_it_was_due_hides_no_pause": Difference(
        "dev", "calls a thread idle that asks for input once a run that waits is cancelled"
    ),
    "test_api_misc.py::test_metrics_of_the_queue_and_the_pools": Difference("dev", "has no pools"),
}
