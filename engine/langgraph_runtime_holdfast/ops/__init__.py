"""What the stock server calls, a module for each resource."""

from langgraph_runtime_holdfast.ops.assistants import Assistants
from langgraph_runtime_holdfast.ops.crons import Crons
from langgraph_runtime_holdfast.ops.run_stream import StreamHandler
from langgraph_runtime_holdfast.ops.runs import Runs
from langgraph_runtime_holdfast.ops.threads import Threads

__all__ = ["Assistants", "Crons", "Runs", "StreamHandler", "Threads"]
