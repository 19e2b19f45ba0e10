"""The analytics agent, offline: exact answers, and every way to send it something wrong."""

from __future__ import annotations

import base64
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import pytest

from graphs.analytics import tools
from graphs.analytics.graph import graph
from graphs.analytics.offline import plan_sql
from graphs.analytics.sql import profile_data, query_data
from graphs.analytics.tools import chart_spec
from graphs.kit.datafolder import EXAMPLES
from graphs.kit.problems import InputProblem

pytestmark = pytest.mark.usefixtures("no_blocking")

SALES = """order_id,day,region,product,quantity,unit_price
1,2025-01-05,North,Hinge,3,10.5
2,2025-01-20,South,Latch,1,25
3,2025-02-03,North,Latch,2,25
4,2025-02-11,East,Hinge,5,10.5
"""
KINDS = {"order_id": "number", "day": "date", "region": "text", "product": "text"}
KINDS |= {"quantity": "number", "unit_price": "number"}
EXAMPLE = json.loads((EXAMPLES / "analytics.json").read_text())


async def ask(text: str = "", **keys: Any) -> dict[str, Any]:
    messages = {"messages": [{"role": "user", "content": text}]} if text else {}
    answer: dict[str, Any] = await graph.ainvoke({**messages, "data": {"csv": SALES}, **keys})
    return answer


async def test_the_shipped_example_is_answered_with_exact_figures_and_a_chart() -> None:
    revenue: dict[str, float] = defaultdict(float)
    with (EXAMPLES / "orders.csv").open() as orders:
        for row in csv.DictReader(orders):
            revenue[row["product"]] += int(row["quantity"]) * float(row["unit_price"])
    best = sorted(revenue.items(), key=lambda item: -item[1])[:3]

    answer = await graph.ainvoke(EXAMPLE)

    assert answer["problem"] is None
    assert answer["result"]["profile"]["rows"] == 120
    rows = answer["result"]["table"]["rows"]
    assert [row[0] for row in rows] == [product for product, _ in best]
    assert [row[1] for row in rows] == pytest.approx([total for _, total in best])
    chart = answer["result"]["chart"]
    assert chart["mark"] == "bar"
    assert chart["data"]["values"][0] == {"product": best[0][0], "total_revenue": rows[0][1]}
    assert best[0][0] in answer["messages"][-1].text
    json.dumps(answer["result"], allow_nan=False)


async def test_the_callers_sql_is_for_one_turn_and_an_unknown_question_gets_the_profile() -> None:
    first = await ask("Run it", sql="SELECT count(*) AS n FROM data -- all")
    assert first["result"]["table"]["rows"] == [[4]]
    messages = [*first["messages"], {"role": "user", "content": "total profit by colour"}]
    second = await graph.ainvoke({**first, "messages": messages})
    assert set(second["result"]) == {"profile"}
    assert "10.5 to 25.0" in second["messages"][-1].text


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("What is the average price by region?", [["South", 25], ["North", 17.75], ["East", 10.5]]),
        ("Total sales per month?", [["2025-01-01", 56.5], ["2025-02-01", 102.5]]),
        ("how many orders by product", [["Hinge", 2], ["Latch", 2]]),
        ("top 1 regions by revenue", [["North", 81.5]]),
        ("median quantity", [[2.5]]),
    ],
)
def test_common_questions(question: str, rows: list[list[Any]]) -> None:
    assert query_data(SALES.encode(), plan_sql(question, KINDS) or "")["rows"] == rows


@pytest.mark.parametrize(
    "question", ["", "total quantity in Atlantis", "average price by colour", "total order"]
)
def test_a_word_that_nothing_explains_is_not_ignored(question: str) -> None:
    assert plan_sql(question, KINDS) is None


@pytest.fixture
def parquet(tmp_path: Path) -> bytes:
    file = tmp_path / "table.parquet"
    relation = duckdb.sql(
        "SELECT i AS id, timestamptz '2025-01-01 10:00:00+02' AS at, 'nan'::DOUBLE AS x, [i] AS list, "
        "(i::HUGEINT << 90) AS huge FROM range(3) AS t(i)"
    )
    assert relation is not None
    relation.write_parquet(str(file))
    return file.read_bytes()


async def test_parquet_with_values_that_json_cannot_say(parquet: bytes) -> None:
    inline = base64.b64encode(parquet).decode()
    answer = await ask(data={"parquet_base64": inline}, sql="FROM data ORDER BY id DESC LIMIT 1")
    assert answer["result"]["table"]["rows"] == [[2, "2025-01-01 08:00:00+00", None, "[2]", float(2 << 90)]]
    json.dumps(answer["result"], allow_nan=False)
    broken = base64.b64encode(parquet[:-20]).decode()
    assert "cannot be read" in (await ask(data={"parquet_base64": broken}))["problem"]["message"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n", "needs a different name"),
        (b"a,b\n", "0 rows"),
        (b"a,b\n1,2\n3\n", "Line 3 of the CSV has 1 fields; the header has 2"),
        (b'a,b\n1,"open\n', "Line 2"),
        (b"a,b\n1,\xff\xfe\n", "Line 2 of the CSV is not UTF-8"),
        (b"a,A\n1,2\n", "different name"),
        (b"1,2\n3,4\n", "different name"),
        (b"PAR1 is not enough", "cannot be read"),
    ],
)
def test_malformed_tables_are_explained(content: bytes, says: str) -> None:
    with pytest.raises(InputProblem, match=says):
        profile_data(content)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"data": None}, "missing_data"),
        ({"data": {"csv": "a\n1\n", "path": "orders.csv"}}, "invalid_data"),
        ({"data": {"url": "http://example.com/x.csv"}}, "invalid_data"),
        ({"data": {"csv": "x" * 7_000_001}}, "invalid_data"),
        ({"data": {"parquet_base64": "***"}}, "invalid_data"),
        ({"data": {"path": "/etc/passwd"}}, "path_outside_data_folder"),
        ({"sql": ["SELECT 1"]}, "invalid_sql"),
        ({"sql": "COPY data TO '/tmp/stolen.csv'"}, "sql_refused"),
        ({"text": "x" * 1_000_000}, "prompt_too_long"),
    ],
)
async def test_what_cannot_be_used_is_a_problem(keys: dict[str, Any], code: str) -> None:
    answer = await ask(**keys)
    assert answer["problem"]["code"] == code
    assert answer["problem"]["message"] in answer["messages"][-1].text


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT 1; DROP TABLE data", "single SELECT"),
        ("SELECT 1) AS x; DROP TABLE data; --", "cannot be run"),
        ("ATTACH '/tmp/x.db'", "single SELECT"),
        ("SET enable_external_access = true", "single SELECT"),
        ("INSERT INTO data VALUES (1)", "single SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "reaches for files"),
        ("SELECT * FROM read_json('http://127.0.0.1/x')", "reaches for files"),
        ("SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/x')", "reaches for files"),
        ("SELECT * FROM content", "cannot be run"),  # a variable of the Python code that runs the query
        ("SELECT repeat('x', 4000000000)", "cannot be run"),  # more memory than it may have
        ("", "single SELECT"),
    ],
)
def test_sql_that_reaches_outside_or_cannot_run_is_refused(sql: str, says: str) -> None:
    with pytest.raises(InputProblem, match=says):
        query_data(SALES.encode(), sql)


def test_long_answers_are_cut_and_say_so() -> None:
    table = query_data(SALES.encode(), "SELECT i, repeat('x', 5000) FROM range(100000) AS t(i)")
    assert table["truncated"]
    assert len(table["rows"]) == 1000
    assert len(table["rows"][0][1]) == 201


async def test_work_without_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "WORK_SECONDS", 0.6)
    answer = await ask(sql="SELECT count(*) FROM range(1000000000000)")
    assert answer["problem"]["code"] == "too_much_work"


def test_chart_escapes_field_names_and_needs_something_to_draw() -> None:
    columns = [{"name": "a.b", "kind": "text"}, {"name": "n", "kind": "number"}]
    spec = chart_spec({"columns": columns, "rows": [["x", 1], ["y", 2]]})
    assert spec is not None
    assert spec["encoding"]["x"]["field"] == "a\\.b"
    assert chart_spec({"columns": columns, "rows": [["x", 1]]}) is None
    assert chart_spec({"columns": columns[:1], "rows": [["x"], ["y"]]}) is None
