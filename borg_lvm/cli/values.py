"""The kinds of values that options take, as argparse calls them. What is wrong with one is an ArgumentTypeError."""

from __future__ import annotations

import argparse
import signal

MOST_SECONDS = 86400
"""The longest time to wait for a lock, as in the configuration."""
LONGEST_VIEW = 7 * 86400
"""The longest time that a view may stand, as in the configuration."""


def path(text: str) -> str:
    """Read a path that could exist."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable not set?")
    from borg_lvm.machine.paths import impossible

    if why := impossible(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {why}")
    return text


def seconds(text: str, least: int = 0, most: int = MOST_SECONDS) -> float:
    """Read a number of seconds within limits."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not least <= number <= most:
        from borg_lvm.config.document import in_seconds

        written = in_seconds(text)
        hint = f"; write {written}" if written and least <= float(written) <= most else ""
        raise argparse.ArgumentTypeError(f"must be a number of seconds from {least} to {most}, not {text!r}{hint}")
    return number


def time_limit(text: str) -> float:
    """Read how many seconds a drill may take."""
    return seconds(text, 1)


def limit(text: str) -> float:
    """Read for how many seconds a view may stay mounted."""
    return seconds(text, 1, LONGEST_VIEW)


def status(text: str) -> int | None:
    """Read $? of a shell, or $EXIT_STATUS of systemd: the name of a signal where one has ended the service.

    It is empty (None) where the service has failed before it came to its backup.
    """
    if not text:
        return None
    try:
        number = int(text) if text.isascii() and text.isdigit() else 128 + signal.Signals[f"SIG{text}"]
    except KeyError:
        number = -1
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f"must be an exit status from 0 to 255 or a signal like TERM, not {text!r}")
    return number
