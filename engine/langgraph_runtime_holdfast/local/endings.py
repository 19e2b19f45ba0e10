"""How a process that owns others is told to end: by a signal, noticed where it is safe to stop.

A handler that raised would do so anywhere, also between taking a lock and the block that gives it back (in
`Popen.poll`, say), and the orderly end would wait for that lock for ever. So the handler only takes note, and
every wait of an owner is a `pause`, which raises.
"""

import signal
import time
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_told: signal.Signals | None = None


class ToldToEndError(BaseException):
    """A signal asked this process to end. Not an Exception, so that nothing takes it for a fault."""

    def __init__(self, number: int) -> None:
        """Remember which signal."""
        self.number = signal.Signals(number)


def listen_to_signals() -> None:
    """Note the first SIGINT, SIGTERM or SIGHUP; the next `pause` raises it. Later ones change nothing."""
    for number in ENDING_SIGNALS:
        # Under nohup SIGHUP is ignored on purpose.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _note)


def pause(seconds: float) -> None:
    """Wait a moment.

    Raises:
        ToldToEndError: A signal was noted; raised once, so that the orderly end may pause as well.
    """
    global _told
    time.sleep(seconds)
    if _told is not None:
        told, _told = _told, None
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise ToldToEndError(told)


def _note(number: int, _frame: FrameType | None) -> None:
    global _told
    _told = _told or signal.Signals(number)
