"""The leash: runs one command and ends all of it when the process that asked for it is gone.

Its standard input is the read end of a pipe whose write end only the owner holds. The kernel closes that
end however the owner goes, kill -9 included, so that end-of-file is the one signal which cannot be missed.

    owner ──pipe──▶ leash (own session: the terminal's Ctrl-C does not reach it) ──▶ command (own group)

On Linux also what left the command's group, as each backend of Postgres does: the leash adopts whatever the
command leaves behind, has it go on should it stand still (SIGSTOP), and kills it once the grace is over.

This file uses the standard library alone and is run by its path, so that it starts in a blink.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

POLL_SECONDS = 0.02
ENDING_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
COMMAND_NOT_FOUND = 127
MOST_ROUNDS = 50


def main(arguments: list[str] | None = None) -> int:
    """Run a command until it ends, standard input closes, or SIGTERM, SIGINT or SIGHUP arrives.

    Returns:
        The command's exit code; 128 + the number of the signal that ended it; 127 if it could not be started.
    """
    parser = argparse.ArgumentParser(prog="leash", description=__doc__)
    parser.add_argument("--signal", default="SIGTERM", help="what asks the command to end, such as SIGINT")
    parser.add_argument("--grace-seconds", type=float, default=10.0, help="how long before SIGKILL")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to run")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command given")
    stop_signal = signal.Signals[options.signal]

    signals = _watch_signals()
    _adopt_orphans()
    leash_id = os.getpid()
    try:
        child = subprocess.Popen(  # noqa: S603 - running the command it is given is this program's purpose
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=lambda: _die_with(leash_id),  # safe: there is one thread here
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr)
        return COMMAND_NOT_FOUND

    _wait_for_end(child, signals)
    _end_group(child, stop_signal, options.grace_seconds)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _watch_signals() -> int:
    """Turn signals into bytes on a pipe, so that one select() waits for all there is to wait for."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (*ENDING_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    return read_end


def _die_with(leash_id: int) -> None:
    """Ask Linux to kill the command should the leash itself be killed; elsewhere there is no such call."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != leash_id:  # the leash died before the call above
        os._exit(COMMAND_NOT_FOUND)


def _adopt_orphans() -> None:
    """Become the parent of what loses its own below here; elsewhere than on Linux there is no such call."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


def _bury_orphans(child: subprocess.Popen[bytes]) -> None:
    """Take note of the ends of those adopted; the command's own is for `child` to see."""
    with contextlib.suppress(ChildProcessError):
        looks = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while (ended := os.waitid(os.P_ALL, 0, looks)) is not None and ended.si_pid != child.pid:
            os.waitpid(ended.si_pid, 0)


def _wait_for_end(child: subprocess.Popen[bytes], signals: int) -> None:
    stdin = sys.stdin.fileno()
    while child.poll() is None:
        ready, _, _ = select.select([stdin, signals], [], [])
        if stdin in ready and not os.read(stdin, 1024):
            return
        if signals in ready and ENDING_SIGNALS.intersection(os.read(signals, 1024)):
            return
        _bury_orphans(child)


def _end_group(child: subprocess.Popen[bytes], stop_signal: signal.Signals, grace_seconds: float) -> None:
    """End the command and whatever it left behind, in its group or below, by force once the grace is over."""
    group = child.pid
    deadline = time.monotonic() + grace_seconds
    _signal_group(group, stop_signal)
    # One that stands still would keep the others waiting.
    _signal_descendants(signal.SIGCONT)
    while time.monotonic() < deadline:
        child.poll()  # a zombie would count as a member of the group
        _bury_orphans(child)
        if not _signal_group(group, 0) and not _descendants():
            return
        time.sleep(POLL_SECONDS)
    _signal_group(group, signal.SIGKILL)
    # Each may have started another in between.
    for _ in range(MOST_ROUNDS):
        if not _signal_descendants(signal.SIGKILL):
            return
        child.poll()
        _bury_orphans(child)
        time.sleep(POLL_SECONDS)


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group, or none at all (0); returns whether anyone was there."""
    # macOS answers PermissionError where only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


def _signal_descendants(number: int) -> bool:
    """Send a signal to each process below this one; returns whether there was any."""
    found = _descendants()
    for process_id in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process_id, number)
    return bool(found)


def _descendants() -> list[int]:
    """All processes below this one that have not ended; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():  # noqa: PTH208 - pathlib is slow to load
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The name of the program, in brackets, may have anything in it.
                state, parent = file.read().rpartition(b") ")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    below = [os.getpid()]
    while below:
        below = [child for parent in below for child in children.get(parent, ())]
        found += below
    return found


if __name__ == "__main__":
    sys.exit(main())
