"""Checks CSV text before the database sees it, so that a mistake is named with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from graphs.kit.problems import InputProblem

DELIMITERS: Final = ",;\t|"
SHOWN_LINES: Final = 3


def clean_csv(content: bytes) -> bytes:
    """Return the same table as comma-separated UTF-8 without blank lines.

    The delimiter (comma, semicolon, tab or bar) is the one that splits the first line into most fields.

    Raises:
        InputProblem: The content is empty, binary, not UTF-8, ragged, badly quoted, or its header is missing
            or has empty or repeated names.
    """
    text = _decode(content)
    first_line = next((line for line in text.splitlines() if line.strip()), None)
    if first_line is None:
        raise InputProblem("csv_empty", "The CSV is empty.", "Send a header line and at least one row.")
    delimiter = max(DELIMITERS, key=first_line.count)
    rows = _rows(text, delimiter)
    _, header = next(rows)
    header = _check_header(header)

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(header)
    ragged: list[str] = []
    count = 0
    for line, row in rows:
        if len(row) != len(header):
            ragged.append(f"line {line} has {len(row)}")
            if len(ragged) == SHOWN_LINES:
                break
        writer.writerow(row)
        count += 1
    if ragged:
        raise InputProblem(
            "csv_ragged",
            f"The header has {len(header)} fields, but {', '.join(ragged)}.",
            "Give every line the same number of fields; put fields that contain the delimiter in quotes.",
        )
    if count == 0:
        raise InputProblem("csv_no_rows", "The CSV has a header but no rows.", "Send at least one row.")
    return out.getvalue().encode()


def _decode(content: bytes) -> str:
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise InputProblem(
            "csv_binary", f"Line {line} holds binary data.", "Send CSV as UTF-8 text, or send Parquet."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputProblem(
            "csv_not_utf8", f"Line {line} is not UTF-8 text.", "Save the file as UTF-8 and send it again."
        ) from error


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    try:
        for row in reader:
            if any(field.strip() for field in row) or len(row) > 1:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputProblem(
            "csv_malformed",
            f"The CSV cannot be read at line {reader.line_num}: {error}.",
            "Close every quote, and double the quotes inside quoted fields.",
        ) from error


def _check_header(header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    if not all(names):
        place = names.index("") + 1
        raise InputProblem(
            "csv_header_empty", f"Column {place} of the header has no name.", "Name every column."
        )
    seen: dict[str, str] = {}
    for name in names:
        # SQL does not tell names apart by case.
        if name.lower() in seen:
            raise InputProblem(
                "csv_header_duplicate",
                f"The header has the column '{name[:80]}' twice (upper and lower case count as equal).",
                "Give every column its own name.",
            )
        seen[name.lower()] = name
    if all(_is_number(name) for name in names):
        raise InputProblem(
            "csv_no_header",
            "The first line holds only numbers, so the header is missing.",
            "Add a header line.",
        )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
