"""What stops the engine, told in one line: the cause and the cure."""


class EngineError(Exception):
    """The engine cannot start or go on; the message is for the person who runs it."""
