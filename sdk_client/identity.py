"""Names that are the same wherever they are computed."""

from __future__ import annotations

import uuid

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "holdfast")


def thread_id_for(conversation_id: str, namespace: uuid.UUID = NAMESPACE) -> str:
    """Give the thread of a conversation: the same id for the same conversation, in every process.

    Args:
        conversation_id: The caller's own name for the conversation (a ticket, a chat, an order).
        namespace: Keeps the conversations of two applications on one server apart.
    """
    return str(uuid.uuid5(namespace, f"conversation:{conversation_id}"))


def thread_id_for_request(request_id: str) -> str:
    """Give the thread of a request without a conversation; its record lives there in any case."""
    return str(uuid.uuid5(NAMESPACE, f"request:{request_id}"))


def claim_id_for(thread_id: str, pause_id: str) -> str:
    """Give the id of the one decision that a pause can have."""
    return str(uuid.uuid5(NAMESPACE, f"decision:{thread_id}:{pause_id}"))


def takeover_id_for(claim_id: str, generation: int) -> str:
    """Give the id of the right to finish what the holder of a claim left undone, for the n-th time."""
    return str(uuid.uuid5(NAMESPACE, f"takeover:{claim_id}:{generation}"))


def new_request_id() -> str:
    """Name a request that the caller gave no name."""
    return str(uuid.uuid4())
