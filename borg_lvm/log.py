"""What a person, or a machine, is told while a run goes on. Everything goes to standard error.

Standard output belongs to the wrapped command. On a terminal a long step shows that it has begun; elsewhere one
plain line tells when it is done; `--log-json` makes each line a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PREFIX = "borg-lvm: "


class Log:
    """Writes lines; `quiet` keeps errors and warnings only."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._terminal = not as_json and not quiet and sys.stderr.isatty()

    def info(self, text: str, **fields: object) -> None:
        """Tell what happened."""
        if not self.quiet:
            self._write("info", text, fields)

    def warning(self, text: str, **fields: object) -> None:
        """Tell of something that a person should look at."""
        self._write("warning", text, fields)

    def error(self, text: str, **fields: object) -> None:
        """Tell why the run failed."""
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
            self._raw(json.dumps({"time": time.time(), "level": level, "message": text, **fields}) + "\n")
            return
        mark = "" if level == "info" else f"{level}: "
        self._raw("".join(f"{PREFIX}{mark if not n else '  '}{line}\n" for n, line in enumerate(text.split("\n"))))

    def _raw(self, text: str) -> None:
        # Names that are not UTF-8 are shown escaped. A closed terminal must not stop a release.
        try:
            sys.stderr.buffer.write(text.encode("utf-8", "backslashreplace"))
            sys.stderr.buffer.flush()
        except OSError:
            pass
