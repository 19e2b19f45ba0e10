"""Routes that a runtime may add to the API. There are none."""
