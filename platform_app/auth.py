"""Who may call the server: whoever presents the key in HOLDFAST_API_KEY as `x-api-key`.

Fails closed: without a key on the server every call is refused, so a forgotten setting cannot leave the API
open (the stock default, `noop`, would). Health and metrics stay open; they carry no data of a run.

One shared key is the starting point, not the end: to tell users apart, return their identity here and add
`@auth.on` handlers that filter threads by owner.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import Final

from langgraph_sdk import Auth

KEY_VARIABLE: Final = "HOLDFAST_API_KEY"
HEADER: Final = b"x-api-key"
MIN_KEY_CHARACTERS: Final = 16

auth = Auth()


@auth.authenticate
async def authenticate(headers: Mapping[bytes, bytes]) -> Auth.types.MinimalUserDict:
    """Compare the caller's key with the server's, in constant time.

    Raises:
        Auth.exceptions.HTTPException: 401, when the server has no usable key or the caller's differs.
    """
    expected = os.environ.get(KEY_VARIABLE, "").strip()
    if len(expected) < MIN_KEY_CHARACTERS:
        raise Auth.exceptions.HTTPException(
            status_code=401,
            detail=f"The server has no usable {KEY_VARIABLE} (at least {MIN_KEY_CHARACTERS} characters), "
            "so it refuses every call. Set it in the server's environment or .env and restart.",
        )
    given = headers.get(HEADER, b"")
    if not hmac.compare_digest(given, expected.encode()):
        raise Auth.exceptions.HTTPException(
            status_code=401, detail=f"Send the server's {KEY_VARIABLE} in the x-api-key header."
        )
    return {"identity": "api-key", "is_authenticated": True}
