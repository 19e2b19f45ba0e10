"""`python -m langgraph_runtime_holdfast.local`: the local stack as a command."""

from langgraph_runtime_holdfast.local.up import app

app(prog_name="python -m langgraph_runtime_holdfast.local")
