"""What a run reports to a person, or a machine, meanwhile. Everything goes to standard error.

Standard output belongs to the wrapped command. On a terminal a long step shows that it has begun; elsewhere one
plain line says when it is done; `--log-json` makes each line a JSON object. If journald reads our standard error, it
gets the messages with their fields instead.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

PREFIX = "borg-lvm: "
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # what a name could steer a terminal with


class Log:
    """Writes lines; `quiet` keeps errors and warnings only. `like_borg`: JSON lines are as borg's own.

    `context` are fields that every message has from now on.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, like_borg: bool = False) -> None:
        self.as_json = as_json
        self._like_borg = like_borg
        self.quiet = quiet
        self.context: dict[str, object] = {}
        self._terminal = not as_json and not quiet and os.isatty(2)
        self._journal = _to_journald() if not as_json and "JOURNAL_STREAM" in os.environ else None

    def info(self, text: str, **fields: object) -> None:
        """Report what happened."""
        if not self.quiet:
            self._write("info", text, fields)

    def progress(self, text: str) -> None:
        """Show a person who looks on how it goes; nobody else."""
        if self._terminal:
            self._write("info", text, {})

    def warning(self, text: str, **fields: object) -> None:
        """Report something that a person should look at."""
        self._write("warning", text, fields)

    def error(self, text: str, **fields: object) -> None:
        """Report why the run failed."""
        self._write("error", text, fields)

    @contextmanager
    def step(self, text: str, **fields: object) -> Iterator[None]:
        """Show a step that may take long, then how long it took."""
        if self._terminal:
            self._raw(f"{PREFIX}{text} …\r")
        start = time.monotonic()
        try:
            yield
        except BaseException:
            if self._terminal:
                self._raw("\x1b[K")
            raise
        took = time.monotonic() - start
        if self._terminal:
            self._raw("\x1b[K")
        self.info(f"{text}: {took:.1f} s", step=text, seconds=round(took, 3), **fields)

    def _write(self, level: str, text: str, fields: dict[str, object]) -> None:
        if self.as_json:
            import json
        if self.as_json and self._like_borg:  # its documentation: internals/frontends, "log_message"
            borgs = {"type": "log_message", "levelname": level.upper(), "name": "borg_lvm", "message": PREFIX + text}
            self._raw(json.dumps({"time": time.time(), **borgs}) + "\n")
            return
        known = self.context | fields
        if self.as_json:
            self._raw(json.dumps({"time": time.time(), "level": level, "message": text, **known}) + "\n")
            return
        mark = "" if level == "info" else f"{level}: "
        lines = [_CONTROL.sub(_escaped, line) for line in text.split("\n")]
        if self._journal and self._journal(level, "\n".join(lines), known):
            return
        self._raw("".join(f"{PREFIX}{mark if not n else '  '}{line}\n" for n, line in enumerate(lines)))

    def _raw(self, text: str) -> None:
        # Names that are not UTF-8 are shown escaped. A closed terminal or a full disk must not stop a release; and
        # nothing may wait in a buffer, whose last flush would change our exit status.
        data = text.encode("utf-8", "backslashreplace")
        with suppress(OSError):
            while data:
                data = data[os.write(2, data) :]


def _to_journald() -> Callable[[str, str, Mapping[str, object]], bool] | None:
    from borg_lvm import journal

    return journal.connected()


def _escaped(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]
