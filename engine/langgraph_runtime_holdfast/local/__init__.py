"""The local stack: embedded Postgres, the LangGraph server and the callback receiver, run as one."""
