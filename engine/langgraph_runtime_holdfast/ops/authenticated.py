"""The hook that every operation asks before it touches a row: the user's `Auth` handlers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from langgraph_sdk import Auth

Action = Literal["create", "read", "update", "delete", "search", "create_run"]


class Authenticated:
    """A resource whose operations ask the user's handlers, and restrict rows by the filter they return."""

    resource: ClassVar[Literal["threads", "crons", "assistants"]]

    @classmethod
    async def handle_event(
        cls, ctx: Auth.types.BaseAuthContext | None, action: Action, value: Any
    ) -> Auth.types.FilterType | None:
        """Ask the handlers; the value may be changed by them.

        Args:
            ctx: Who asks; None takes the request's own, and without one everything is allowed (the server
                itself).
            action: What is to be done.
            value: What with; one of `Auth.types`.

        Returns:
            The filter that the row's metadata must pass.

        Raises:
            HTTPException: A handler refused.
        """
        from langgraph_api.auth.custom import handle_event
        from langgraph_api.utils import get_auth_ctx

        ctx = ctx or get_auth_ctx()
        if not ctx:
            return None
        context = Auth.types.AuthContext(
            user=ctx.user, permissions=ctx.permissions, resource=cls.resource, action=action
        )
        filters: Auth.types.FilterType | None = await handle_event(context, value)
        return filters
