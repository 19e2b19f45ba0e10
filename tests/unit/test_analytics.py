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

from graphs.analytics import warehouse
from graphs.analytics.ask import plan_sql
from graphs.analytics.chart import chart_spec
from graphs.analytics.graph import graph
from graphs.analytics.warehouse import profile_data, query_data
from graphs.kit.datafolder import EXAMPLES

pytestmark = pytest.mark.usefixtures("no_blocking")

SALES = """order_id,day,region,product,quantity,unit_price
1,2025-01-05,North,Hinge,3,10.5
2,2025-01-20,South,Latch,1,25
3,2025-02-03,North,Latch,2,25
4,2025-02-11,East,Hinge,5,10.5
"""
COLUMNS: list[dict[str, Any]] = [
    {"name": "order_id", "kind": "number"},
    {"name": "day", "kind": "date"},
    {"name": "region", "kind": "text", "values": ["North", "South", "East"]},
    {"name": "product", "kind": "text", "values": ["Hinge", "Latch"]},
    {"name": "quantity", "kind": "number"},
    {"name": "unit_price", "kind": "number"},
]


EXAMPLE = json.loads((EXAMPLES / "analytics.json").read_text())
with (EXAMPLES / "orders.csv").open() as orders:
    ORDERS = list(csv.DictReader(orders))


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


async def ask(text: str = "", **keys: Any) -> dict[str, Any]:
    messages = {"messages": [{"role": "user", "content": text}]} if text else {}
    answer: dict[str, Any] = await graph.ainvoke({**messages, "data": {"csv": SALES}, **keys})
    return answer


async def test_the_shipped_example_is_answered_with_exact_figures_and_a_chart() -> None:
    revenue: dict[str, float] = defaultdict(float)
    for row in ORDERS:
        revenue[row["product"]] += int(row["quantity"]) * float(row["unit_price"])
    best = sorted(revenue.items(), key=lambda item: -item[1])[:3]

    answer = await graph.ainvoke(EXAMPLE)

    assert answer["problem"] is None
    assert answer["result"]["profile"]["rows"] == 120
    rows = answer["result"]["table"]["rows"]
    assert [row[0] for row in rows] == [product for product, _ in best]
    assert [row[1] for row in rows] == pytest.approx([total for _, total in best])
    chart = answer["result"]["chart"]
    assert chart["mark"]["type"] == "bar"
    assert chart["data"]["values"][0] == {"product": best[0][0], "total_revenue": rows[0][1]}
    assert best[0][0] in answer["messages"][-1].text
    json.dumps(answer["result"], allow_nan=False)


async def test_questions_become_sql_and_unknown_ones_are_not_guessed() -> None:
    table = (await ask("average price by region"))["result"]["table"]
    assert table["rows"] == [["South", 25.0], ["North", 17.75], ["East", 10.5]]

    unknown = await ask("total profit by colour")
    assert unknown["problem"] is None
    assert set(unknown["result"]) == {"profile"}
    assert "by region" in unknown["messages"][-1].text


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("Total sales per month?", [["2025-01-01", 56.5], ["2025-02-01", 102.5]]),
        ("how many orders by product", [["Hinge", 2], ["Latch", 2]]),
        ("how many units by product", [["Hinge", 8], ["Latch", 3]]),
        ("top 1 regions by revenue", [["North", 81.5]]),
        ("which region has the fewest orders", [["East", 1]]),
        ("total quantity in the North", [[5]]),
        ("number of different products", [[2]]),
        ("median unit price in 2025", [[17.75]]),
    ],
)
def test_common_questions(question: str, rows: list[list[Any]]) -> None:
    sql = plan_sql(question, COLUMNS)
    assert sql is not None
    table, problem = query_data(SALES.encode(), sql)
    assert problem is None
    assert table is not None
    assert table["rows"] == rows


@pytest.mark.parametrize("question", ["total quantity in Atlantis", "average price by colour", "hello"])
def test_a_condition_that_no_column_explains_is_not_ignored(question: str) -> None:
    assert plan_sql(question, COLUMNS) is None


async def test_the_callers_own_sql_runs_once_and_the_next_turn_asks_anew() -> None:
    first = await ask("Run it", sql="SELECT count(*) AS n FROM data -- all")
    assert first["result"]["table"]["rows"] == [[4]]
    messages = [*first["messages"], {"role": "user", "content": "total quantity"}]
    second = await graph.ainvoke({**first, "messages": messages})
    assert second["result"]["table"]["rows"] == [[11]]


async def test_parquet_inline(parquet: bytes) -> None:
    inline = base64.b64encode(parquet).decode()
    answer = await ask(data={"parquet_base64": inline}, sql="FROM data ORDER BY id DESC LIMIT 1")
    row = answer["result"]["table"]["rows"][0]
    assert row == [2, "2025-01-01T08:00:00Z", None, "[2]", float(2 << 90)]

    broken = base64.b64encode(parquet[:-20]).decode()
    assert (await ask(data={"parquet_base64": broken}))["problem"]["code"] == "invalid_parquet"


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "csv_empty", "empty"),
        (b"a,b\n", "csv_no_rows", "no rows"),
        (b"a,b\n1,2\n3\n4,5,6\n", "csv_ragged", "line 3 has 1, line 4 has 3"),
        (b'a,b\n1,"open\n', "csv_malformed", "line 2"),
        (b"a,b\n1,\0\n", "csv_binary", "Line 2"),
        (b"a,b\n1,\xff\xfe\n", "csv_not_utf8", "Line 2"),
        (b"a,A\n1,2\n", "csv_header_duplicate", "'A'"),
        (b"a,,c\n1,2,3\n", "csv_header_empty", "Column 2"),
        (b"1,2\n3,4\n", "csv_no_header", "header"),
        (b"PAR1 is not enough", "invalid_parquet", "Parquet"),
    ],
)
def test_malformed_tables_are_explained(content: bytes, code: str, says: str) -> None:
    value, problem = profile_data(content)
    assert value is None
    assert problem is not None
    assert problem["code"] == code
    assert says in problem["message"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, "missing_data"),
        ({}, "invalid_data"),
        ({"csv": "a\n1\n", "path": "orders.csv"}, "invalid_data"),
        ({"url": "http://example.com/x.csv"}, "invalid_data"),
        ({"csv": 7}, "invalid_data"),
        ({"csv": "x" * 7_000_001}, "invalid_data"),
        ({"csv": "a,b\n1\n"}, "csv_ragged"),
        ({"parquet_base64": "***"}, "invalid_base64"),
        ({"parquet_base64": "YWJj"}, "invalid_parquet"),
        ({"path": "../graph.py"}, "path_outside_data_folder"),
        ({"path": "/etc/passwd"}, "path_outside_data_folder"),
        ({"path": "absent.csv"}, "file_not_found"),
    ],
)
async def test_data_that_cannot_be_used_is_a_problem(data: Any, code: str) -> None:
    answer = await ask("profile this", data=data)
    assert answer["problem"]["code"] == code
    assert answer["problem"]["message"] in answer["messages"][-1].text


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"sql": "SELECT 1; DROP TABLE data"}, "sql_not_allowed"),
        ({"sql": "SELECT * FROM read_csv('/etc/passwd')"}, "sql_not_allowed"),
        ({"sql": ""}, "invalid_sql"),
        ({"sql": ["SELECT 1"]}, "invalid_sql"),
        ({"text": "COPY data TO '/tmp/stolen.csv'"}, "sql_not_allowed"),
        ({"text": "x" * 1_000_000}, "prompt_too_long"),
    ],
)
async def test_requests_that_are_refused(keys: dict[str, Any], code: str) -> None:
    assert (await ask(**keys))["problem"]["code"] == code


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '/tmp/x.db'",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "INSERT INTO data VALUES (1)",
        "CREATE TABLE x AS SELECT 1",
        "INSTALL httpfs",
        "CALL enable_logging()",
        "EXPLAIN SELECT 1",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/x')",
        "SELECT * FROM read_json('http://127.0.0.1/x')",
    ],
)
def test_sql_that_reaches_outside_is_refused(sql: str) -> None:
    value, problem = query_data(SALES.encode(), sql)
    assert value is None
    assert problem is not None
    assert problem["code"] == "sql_not_allowed"


@pytest.mark.parametrize(
    "sql",
    [
        "FROM '/etc/passwd'",
        "SELECT * FROM content",  # a variable of the Python code that runs the query
        "WITH w AS (INSERT INTO data SELECT * FROM data RETURNING *) SELECT * FROM w",
        "SELECT 1) AS x; DROP TABLE data; --",
        "SELECT nothing FROM data",
        "",
    ],
)
def test_sql_that_cannot_run_is_a_problem(sql: str) -> None:
    value, problem = query_data(SALES.encode(), sql)
    assert value is None
    assert problem is not None
    assert problem["code"] in {"sql_invalid", "sql_not_allowed"}


def test_long_answers_are_cut_and_say_so() -> None:
    table, _ = query_data(SALES.encode(), "SELECT i, repeat('x', 5000) FROM range(100000) AS t(i)")
    assert table is not None
    assert table["truncated"]
    assert len(table["rows"]) <= 1000
    assert len(table["rows"][0][1]) < 600


def test_work_without_end_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "WORK_SECONDS", 0.3)
    _, problem = query_data(SALES.encode(), "SELECT count(*) FROM range(1000000000000)")
    assert problem is not None
    assert problem["code"] == "sql_timeout"


def test_memory_is_bounded() -> None:
    _, problem = query_data(SALES.encode(), "SELECT repeat('x', 4000000000)")
    assert problem is not None
    assert problem["code"] == "sql_out_of_memory"


def test_chart_escapes_field_names_and_needs_something_to_draw() -> None:
    columns = [
        {"name": "a.b", "type": "VARCHAR", "kind": "text"},
        {"name": "n", "type": "BIGINT", "kind": "number"},
    ]
    spec = chart_spec({"columns": columns, "rows": [["x", 1], ["y", 2]]})
    assert spec is not None
    assert spec["encoding"]["x"]["field"] == "a\\.b"
    assert chart_spec({"columns": columns, "rows": [["x", 1]]}) is None
    assert chart_spec({"columns": columns[:1], "rows": [["x"], ["y"]]}) is None
