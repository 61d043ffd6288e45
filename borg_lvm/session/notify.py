"""Reports the result of a run or a drill, when all is done: metrics in a file, and commands that notify somebody.

Whatever goes wrong here is a warning: it has ended, and its exit status stays what it is. A drill leaves the metrics
of the last run as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from borg_lvm.errors import BorgLvmError, LockedError
from borg_lvm.linux import permissions, safe_open, subprocesses
from borg_lvm.linux.signals import Signals
from borg_lvm.records import dataclass
from borg_lvm.reporting.terminal import shown

if TYPE_CHECKING:
    from borg_lvm.config.schema import Settings
    from borg_lvm.config.sections import Notification
    from borg_lvm.log import Log
    from borg_lvm.reporting.prometheus import News
    from borg_lvm.session.recorder import RunResult

LARGEST = 1 << 20
LONGEST = 10_000
"""Letters of a text in a notification's environment: names and words of others are in it, and the kernel starts no
program with 128 KiB or more of one (MAX_ARG_STRLEN)."""
DRILL = "drill"
"""What stands for the program in what is reported of a drill, and where the certificate of one has its id."""


@dataclass
class Notice:
    """What is to be notified of: how a run has ended, if it came to begin at all."""

    result: RunResult | None = None


@contextmanager
def notifying(settings: Settings, program: str, log: Log, *, drill: bool = False) -> Iterator[Notice]:
    """Report the result of a run in the block, also when it is refused, to the commands that are configured, if any.

    Or of a `drill`, whose certificate is kept when the block ends, and whose `program` is `DRILL`.
    """
    notice = Notice()
    error: BaseException | None = None
    try:
        yield notice
    except BaseException as caught:
        error = caught
        raise
    finally:
        if settings.metrics or settings.notify:
            with Signals():  # a signal takes effect when this is done
                _deliver(_news(notice.result, program, error), settings, log, drill=drill)


def _news(result: RunResult | None, program: str, error: BaseException | None) -> News:
    from borg_lvm.reporting.prometheus import News
    from borg_lvm.session.recorder import ended

    if (certificate := result.certificate if result else None) and not isinstance(error, LockedError):
        message = certificate["error"]["message"] if certificate["error"] else ""
        name = certificate["command"]["program"] if "command" in certificate else program
        return News(
            certificate["result"],
            certificate["status"],
            certificate["end"],
            certificate["host"],
            name,
            message,
            certificate,
        )
    ending = ended(result.status if result else 0, error)
    return News(
        "failure" if ending.status else "success", ending.status, ending.end, ending.host, program, ending.message
    )


def _deliver(news: News, settings: Settings, log: Log, *, drill: bool) -> None:
    try:
        if settings.metrics:
            name = os.path.basename(settings.metrics).removesuffix(".prom")
            _write_metrics(lambda previous: _text(news, previous, name, drill=drill), settings.metrics, log)
        for notification in settings.notify:
            if news.result in notification.results:
                _notify(news, notification, log)
    except Exception as error:
        log.warning(f"the result of the run could not be reported: {type(error).__name__}: {error}")


def _write_metrics(text: Callable[[str], str], path: str, log: Log) -> None:
    """Put the new file in the place of the old one, so that nobody ever reads half of it."""
    name = os.path.basename(path)
    new = f".{name}.{os.getpid()}"
    try:
        with _directory(os.path.dirname(path)) as directory:
            data = text(_previous(name, directory)).encode()
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=directory)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory)
            try:
                with open(fd, "wb") as file:
                    os.fchmod(fd, 0o644)
                    file.write(data)
                os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(new, dir_fd=directory)
                raise
    except OSError as error:
        log.warning(f"the metrics cannot be written to {path}: {error.strerror}; the backup is not concerned")


@contextmanager
def _directory(path: str) -> Iterator[int]:
    """Have the directory of the metrics open. Raises: OSError.

    It is its exporter's, often, and so may be what it lies in: no link is followed then, which could lead anywhere.
    """
    theirs = permissions.changeable_by_others(path, permissions.Owner(0))
    if any(step.path != os.path.realpath(path) for step in theirs):  # they can change the way to it
        fd = safe_open.opened(path, flags=safe_open.DIRECTORY)
    else:
        fd = os.open(path, safe_open.DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _text(news: News, previous: str, backup: str, *, drill: bool) -> str:
    """Return the new metrics: those of the last run, and of the last drills, for the file that is named `backup`."""
    from borg_lvm.reporting import prometheus
    from borg_lvm.reporting.drills import metrics
    from borg_lvm.state import drills

    text = metrics.appended(previous if drill else _of_run(news, previous), drills.certificates())
    return prometheus.labelled(text, backup)


def _of_run(news: News, previous: str) -> str:
    """Return the metrics of a run; what the old file does not have is looked up in the history, once."""
    from borg_lvm.reporting import prometheus
    from borg_lvm.state import history

    if prometheus.last_saved(previous) is None:
        with suppress(BorgLvmError, OSError, LookupError, TypeError, ValueError):
            past = [record.certificate for record in history.records() if record.certificate]
            return prometheus.text(news, previous, past)
    return prometheus.text(news, previous)


def _previous(name: str, directory: int) -> str:
    """Return what the file holds; nothing if there is none, or it is none of ours."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        return (file.read(LARGEST) or b"").decode("utf-8", "replace")


def _notify(news: News, notification: Notification, log: Log) -> None:
    """Run a command with what there is to report in its environment, and the certificate on its standard input."""
    certificate = news.certificate
    environment = {
        "BORG_LVM_RESULT": news.result,
        "BORG_LVM_STATUS": str(news.status),
        "BORG_LVM_HOST": news.host,
        "BORG_LVM_PROGRAM": news.program,
        "BORG_LVM_MESSAGE": shown(news.message),  # a name with a line break in it would be a header of a mail
        "BORG_LVM_RUN": (certificate["run"] if certificate else "") or "",
        "BORG_LVM_DRILL": certificate.get(DRILL, "") if certificate else "",
        "BORG_LVM_ARCHIVE": (certificate["archive"] if certificate else "") or "",
    }
    try:
        subprocesses.run(
            notification.command,
            stdin=json.dumps(certificate).encode() + b"\n",
            timeout=notification.timeout,
            env={name: _short(text) for name, text in environment.items()},
        )
    except subprocesses.ProgramError as error:  # its arguments may hold secrets
        log.warning("\n".join([f"a notification could not be sent: {error.brief}", *error.details]))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
