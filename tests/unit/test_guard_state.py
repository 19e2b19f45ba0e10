"""The guard's state rule, compared with the serialiser that writes checkpoints."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import add
from pathlib import Path
from typing import (
    IO,
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypeVar,
)
from uuid import UUID

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph, add_messages
from langgraph.managed import RemainingSteps
from pydantic import BaseModel, ConfigDict, JsonValue
from typing_extensions import TypedDict

from graphs.kit.guard import check_graph

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

T = TypeVar("T")
Lock = threading.Lock
OrderId = NewType("OrderId", str)


class Colour(Enum):
    RED = "red"


class Money(NamedTuple):
    amount: Decimal


@dataclass
class Order:
    """May hold orders of its own: the guard must not follow them for ever."""

    id: UUID
    parts: list[Order]


class Customer(BaseModel):
    name: str
    colour: Colour | None = None


class Item(TypedDict, total=False):
    price: Required[Money]
    note: NotRequired[str]


class Box(TypedDict, Generic[T]):
    content: T


class Connection:
    """Any class of one's own: the serialiser does not know it."""


@dataclass
class Job:
    name: str
    connection: Connection


class Named(TypedDict):
    connection: str


class Session(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    connection: Connection


class Unknown(TypedDict):
    pool: AsyncConnectionPool


def graph_with(annotation: Any) -> Any:
    async def node(state: Any) -> dict[str, Any]:
        return {}

    typed_dict: Any = TypedDict
    graph: StateGraph[Any] = StateGraph(typed_dict("state", {"key": annotation}))
    return graph.add_node("step", node).add_edge(START, "step").compile()


def rules(graph: object) -> set[str]:
    return {violation.rule for violation in check_graph("g", graph)}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str | int | float | bool | bytes | None, None),
        (JsonValue, {"a": [1, {"b": None}]}),
        (dict[str, list[tuple[int, ...]]], {"a": [(1, 2)]}),
        (set[str] | frozenset[int], frozenset({1})),
        (deque[int], deque([1])),
        (OrderedDict[str, int], OrderedDict(a=1)),
        (Sequence[Mapping[str, object]], [{"a": 1}]),
        (Literal["a", "b"], "a"),
        (datetime, datetime.now(UTC)),
        (date | time | timedelta, timedelta(seconds=1)),
        (UUID | Decimal, Decimal("1.5")),
        (Colour, Colour.RED),
        (Money, Money(Decimal(1))),
        (OrderId, OrderId("o")),
        (list[Order], [Order(UUID(int=1), [Order(UUID(int=2), [])])]),
        (Customer | None, Customer(name="a", colour=Colour.RED)),
        (list[Item], [{"price": Money(Decimal(1))}]),
        (Box[int], {"content": 1}),
        (Annotated[list[AnyMessage], add_messages], [HumanMessage("a", id="1")]),
        (Annotated[list[str], add], ["a"]),
        (list[Document], [Document("a")]),
    ],
)
def test_what_passes_can_be_checkpointed(annotation: Any, value: Any) -> None:
    assert check_graph("g", graph_with(annotation)) == []
    serde = JsonPlusSerializer()
    assert serde.dumps_typed(serde.loads_typed(serde.dumps_typed(value))) == serde.dumps_typed(value)


@pytest.mark.parametrize(
    ("annotation", "value", "named"),
    [
        (Lock, threading.Lock(), "threading.Lock"),
        (Connection, Connection(), "Connection"),
        (Callable[[str], str], str.upper, "Callable"),
        (IO[str], None, "typing.IO"),
        (type[Connection], Connection, "type"),
        (Annotated[list[Connection], add], [Connection()], "Connection"),
        (dict[str, Connection | None], {"a": Connection()}, "Connection"),
        (Job, Job("a", Connection()), "Job.connection: "),
        (Session, Session(connection=Connection()), "Session.connection: "),
        (Box[Connection], {"content": Connection()}, "Connection"),
        (Unknown, None, "AsyncConnectionPool"),
    ],
)
def test_what_cannot_be_checkpointed_is_named(annotation: Any, value: Any, named: str) -> None:
    [violation] = check_graph("g", graph_with(annotation))
    assert violation.rule == "state"
    assert "state key 'key'" in violation.detail
    assert named in violation.detail
    if value is not None:
        with pytest.raises(TypeError):
            JsonPlusSerializer().dumps_typed(value)


def test_keys_that_are_never_checkpointed_pass() -> None:
    assert check_graph("g", graph_with(RemainingSteps)) == []
    # A caller cannot send such a key, so it has no place in the input.
    assert rules(graph_with(Annotated[Connection, UntrackedValue])) == {"schema"}


def test_a_nodes_private_input_and_a_subgraphs_state_are_checked() -> None:
    async def node(state: Job) -> dict[str, Any]:
        return {}

    graph = StateGraph(Customer).add_node("step", node).add_node("sub", graph_with(Path))
    graph.add_edge(START, "step").add_edge("step", "sub")
    assert [violation.detail for violation in check_graph("g", graph.compile())] == [
        f"state key 'connection' holds {__name__}.Connection, which does not serialise",
        "subgraph g.sub: state key 'key' holds pathlib.Path, which does not serialise",
    ]


def test_no_schema_of_a_key_hides_another() -> None:
    async def node(state: Any) -> dict[str, Any]:
        return {}

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Job, input_schema=Item, output_schema=Named)
    details = check_graph("g", graph.add_node("step", node).add_edge(START, "step").compile())
    assert ["Connection" in violation.detail for violation in details] == [True]


def test_what_a_workflow_saves_is_checked() -> None:
    @entrypoint()
    async def bad(text: str) -> Connection:
        return Connection()

    @entrypoint()
    async def good(text: str) -> entrypoint.final[str, list[int]]:
        return entrypoint.final(value=text, save=[1])

    assert rules(bad) == {"state"}
    assert rules(good) == {"schema"}  # langgraph cannot resolve the postponed annotations of this module
