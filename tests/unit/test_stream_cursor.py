"""The position in a stream, where servers repeat, forget, or number events alike."""

from __future__ import annotations

from sdk_client.cursor import FROM_THE_START, Cursor, Verdict, content_of
from sdk_client.models import StreamEvent

START = StreamEvent("metadata", {"run_id": "r"}, "10-0")
BLANK, WORD = StreamEvent("custom", " ", "20-0"), StreamEvent("custom", "word", "20-0")
LATER = StreamEvent("custom", "later", "30-0")


def read(cursor: Cursor, *arriving: StreamEvent, stored: tuple[StreamEvent, ...] = ()) -> list[Verdict]:
    """Feed events as the stream does; `stored` is what the server holds under the last id."""
    verdicts = []
    for event in arriving:
        verdict = cursor.judge(event)
        if verdict is Verdict.ASK:
            verdict = cursor.settle(event, [content_of(kept) for kept in stored])
        if verdict is not Verdict.SKIP:
            cursor.advance(event)
        verdicts.append(verdict)
    return verdicts


def test_a_reconnect_between_events_of_one_id_loses_and_repeats_none() -> None:
    cursor = Cursor()
    cursor.connect()
    assert read(cursor, START, WORD) == [Verdict.DELIVER] * 2
    assert cursor.resume_from == "10-0"  # before the last id, whose other events may not have come
    cursor.connect()
    assert read(cursor, WORD, BLANK, LATER) == [Verdict.SKIP, Verdict.DELIVER, Verdict.DELIVER]


def test_a_replay_that_overlaps_with_the_live_events_repeats_none() -> None:
    cursor = Cursor()
    cursor.connect()
    assert read(cursor, START, WORD, LATER) == [Verdict.DELIVER] * 3
    assert read(cursor, WORD, LATER, stored=(LATER,)) == [Verdict.SKIP, Verdict.SKIP]


def test_equal_events_of_one_id_are_told_from_a_repetition_by_what_the_server_holds() -> None:
    cursor = Cursor()
    cursor.connect()
    read(cursor, START, BLANK, WORD)
    held = (BLANK, WORD, BLANK)
    assert read(cursor, BLANK, stored=held) == [Verdict.DELIVER]
    assert read(cursor, BLANK, stored=held) == [Verdict.SKIP]


def test_events_the_server_has_forgotten_are_a_gap() -> None:
    cursor = Cursor()
    assert cursor.resume_from == FROM_THE_START
    cursor.connect()
    assert read(cursor, WORD) == [Verdict.GAP]  # not the first event of a run
    cursor.connect()
    assert cursor.owes_repetition
    assert read(cursor, LATER) == [Verdict.GAP]  # WORD did not come again


def test_events_the_server_never_keeps_are_a_gap_only_after_a_cut() -> None:
    cursor = Cursor()
    cursor.connect()
    part = StreamEvent("messages/partial", ["w"], "20-0")
    assert read(cursor, START, part, part) == [Verdict.DELIVER] * 3
    cursor.connect()
    assert read(cursor, START, part) == [Verdict.SKIP, Verdict.GAP]


def test_a_stream_without_ids_has_a_gap_at_every_cut() -> None:
    cursor = Cursor()
    cursor.connect()
    start, word = StreamEvent("metadata", {}, None), StreamEvent("custom", "word", None)
    assert read(cursor, start, word) == [Verdict.DELIVER] * 2
    cursor.connect()
    assert read(cursor, word, word) == [Verdict.GAP, Verdict.DELIVER]


def test_final_values_that_stand_for_what_was_lost_are_a_gap_once() -> None:
    stand_in = StreamEvent("values", {"done": True}, None)
    cursor = Cursor()
    cursor.connect()
    assert read(cursor, START, WORD, stand_in) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.GAP]
    cursor.connect()
    assert read(cursor, WORD, stand_in) == [Verdict.SKIP, Verdict.SKIP]
