"""Telling others what came of a run, when all is done: metrics in a file, and commands that notify somebody.

Whatever goes wrong here is a warning: the run has ended, and its exit status stays what it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import Notification
from borg_lvm.errors import BorgLvmError, LockedError
from borg_lvm.linux import subprocesses
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.reporting import prometheus
from borg_lvm.reporting.prometheus import News
from borg_lvm.session.recorder import RunResult, ended
from borg_lvm.state import history

LARGEST = 1 << 20


@dataclass
class Notice:
    """What is to be notified of: how a run has ended, if it came to begin at all."""

    result: RunResult = field(default_factory=lambda: RunResult(0))


@contextmanager
def notifying(settings: Settings, program: str, log: Log) -> Iterator[Notice]:
    """Report the result of a run in the block, also when it is refused, to the commands that are configured, if any."""
    notice = Notice()
    error: BaseException | None = None
    try:
        yield notice
    except BaseException as caught:
        error = caught
        raise
    finally:
        if settings.metrics or settings.notify:
            with Signals():  # whoever wants us to end now gets what the run has earned, when this is done
                _tell(_news(notice.result, program, error), settings, log)


def _news(result: RunResult, program: str, error: BaseException | None) -> News:
    if (made := result.certificate) and not isinstance(error, LockedError):
        message = made["error"]["message"] if made["error"] else ""
        return News(
            made["result"], made["status"], made["end"], made["host"], made["command"]["program"], message, made
        )
    ending = ended(result.status, error)
    return News(
        "failure" if ending.status else "success", ending.status, ending.end, ending.host, program, ending.message
    )


def _tell(news: News, settings: Settings, log: Log) -> None:
    try:
        if settings.metrics:
            _write_metrics(news, settings.metrics, log)
        for one in settings.notify:
            if news.result in one.results:
                _notify(news, one, log)
    except Exception as error:
        log.warning(f"the result of the run could not be reported: {type(error).__name__}: {error}")


def _write_metrics(news: News, path: str, log: Log) -> None:
    """Put the new file in the place of the old one, so that nobody ever reads half of it."""
    new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        data = _text(news, path).encode()
        with suppress(FileNotFoundError):
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o644)
                file.write(data)
            os.replace(new, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        log.warning(f"the metrics cannot be written to {path}: {error.strerror}; the backup is not concerned")


def _text(news: News, path: str) -> str:
    """Return the new metrics; what the old file does not tell is looked up in the history, once."""
    previous = _previous(path)
    if prometheus.last_saved(previous) is None:
        with suppress(BorgLvmError, OSError, LookupError, TypeError, ValueError):
            past = [record.certificate for record in history.records() if record.certificate]
            return prometheus.text(news, previous, past)
    return prometheus.text(news, previous)


def _previous(path: str) -> str:
    """Return what the file holds; nothing if there is none, or it is none of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        return (file.read(LARGEST) or b"").decode("utf-8", "replace")


def _notify(news: News, one: Notification, log: Log) -> None:
    """Run a command with what there is to tell in its environment, and the certificate on its standard input."""
    made = news.certificate
    environment = {
        "BORG_LVM_RESULT": news.result,
        "BORG_LVM_STATUS": str(news.status),
        "BORG_LVM_HOST": news.host,
        "BORG_LVM_PROGRAM": news.program,
        "BORG_LVM_MESSAGE": news.message.replace("\0", ""),
        "BORG_LVM_RUN": made["run"] if made else "",
        "BORG_LVM_ARCHIVE": (made["archive"] if made else "") or "",
    }
    try:
        subprocesses.run(one.command, stdin=json.dumps(made).encode() + b"\n", timeout=one.timeout, env=environment)
    except subprocesses.ProgramError as error:  # its arguments may hold secrets
        log.warning("\n".join([f"a notification could not be sent: {error.brief}", *error.details]))
