"""Who may do what, on the server that is locked: a user owns what it made and sees nothing else."""

from typing import Any

from langgraph_sdk import Auth

USERS = ("alice", "bob", "nobody", "odd", "nested")
auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> dict[str, Any]:
    name = (authorization or "").removeprefix("Bearer ")
    if name not in USERS:
        raise Auth.exceptions.HTTPException(status_code=401, detail="Who are you?")
    return {"identity": name, "display_name": name, "permissions": [f"{name}:all"], "colour": "green"}


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    """Everything but the store: stamped with its owner, filtered by it."""
    name = ctx.user.identity
    if name == "nobody":
        return False
    if name == "odd":
        return {"owner": {"$regex": ".*"}}
    metadata = value.get("metadata")
    if metadata is None:
        metadata = value["metadata"] = {}
    if ctx.action in ("create", "create_run", "update"):
        metadata["owner"] = name
    if name == "nested":
        return {"$or": [{"owner": name}, {"shared_with": {"$contains": name}}]}
    return {"owner": name}


@auth.on.store
async def own_namespace(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    """Each user has a namespace of its own."""
    value["namespace"] = (ctx.user.identity, *(value.get("namespace") or ()))
