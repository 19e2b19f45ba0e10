"""The one error of the local stack: something a person can put right."""


class LocalStackError(Exception):
    """The stack cannot start or go on; the message names the cause and the cure."""
