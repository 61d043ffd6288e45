"""The contract, as tests. Derive a class from `ApplicationContract` and give it the fixture `subject`."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from borg_lvm.errors import AbsentError, BorgLvmError, QuiesceError
from borg_lvm.plugins.application import Added, Application
from borg_lvm.quiesce import added_files, timeouts
from borg_lvm.testing.spy import Spy
from borg_lvm.testing.subject import Subject
from borg_lvm.watchdog import resume

SPY = Spy()


class ApplicationContract:
    """What a plugin must do, and must never do. All times are in seconds and may be changed in a derived class."""

    deadline = 5.0
    """How long the application may be quiesced."""
    patience = 20.0
    """How long a write may take when nothing is quiesced."""
    moment = 1.0
    """How long a write is waited for that must not come through."""

    def test_it_says_where_its_data_is(self, subject: Subject) -> None:
        with self._made(subject) as application:
            places = {os.path.realpath(data.path) for data in application.probe().paths}
        keeps = {os.path.realpath(path) for path in subject.keeps()}
        assert places - keeps == set(), "it claims to keep what it does not"
        assert keeps - places == set(), "it does not report all that it keeps"

    def test_it_says_that_it_is_not_there(self, subject: Subject) -> None:
        with subject.gone(), self._made(subject) as application, pytest.raises(AbsentError):
            application.probe()

    def test_it_can_be_closed_whatever_happened(self, subject: Subject) -> None:
        subject.make(self.deadline).close()
        with subject.gone():
            application = subject.make(self.deadline)
            with suppress(BorgLvmError):
                application.probe()
            application.close()

    def test_preparing_stops_nobody(self, subject: Subject) -> None:
        with self._made(subject) as application:
            application.probe()
            self._assert_goes(subject, "after probe")
            _prepare(application)
            self._assert_goes(subject, "after prepare")
            application.intents()
            self._assert_goes(subject, "after intents")

    def test_it_stands_still_and_goes_on(self, subject: Subject) -> None:
        with self._ready(subject) as application:
            with application.quiesced():
                if subject.stops_writers:
                    assert not subject.write(self.moment), "it took a write while it was quiesced"
                else:
                    self._assert_goes(subject, "at a level that stops nobody")
                application.confirm()
            self._assert_goes(subject, "after it was resumed")

    def test_it_goes_on_when_the_block_fails(self, subject: Subject) -> None:
        with self._ready(subject) as application:
            with pytest.raises(ZeroDivisionError), application.quiesced():
                raise ZeroDivisionError
            self._assert_goes(subject, "after a block that failed")

    def test_it_gives_up_at_its_deadline(self, subject: Subject) -> None:
        busy = subject.busy()
        if busy is None:
            pytest.skip("nothing keeps this application from being quiesced")
        with self._ready(subject) as application:
            with busy:
                start = time.monotonic()
                with pytest.raises(QuiesceError), timeouts.at_most(2 * self.deadline + 5), application.quiesced():
                    pytest.fail("it says that it is quiesced, and cannot be")
                assert time.monotonic() - start < 2 * self.deadline + 5, "it does not heed its deadline"
            self._assert_goes(subject, "after it has given up")

    def test_it_proves_that_it_stood_still(self, subject: Subject) -> None:
        with self._ready(subject) as application:
            with suppress(BorgLvmError), application.quiesced():
                if not subject.lose():
                    pytest.skip("nobody can set this application going behind its back")
                with pytest.raises(QuiesceError):
                    application.confirm()
            self._assert_goes(subject, "after it was lost")

    def test_nothing_is_written_while_it_stands_still(self, subject: Subject) -> None:
        with self._ready(subject) as application, SPY.listening() as heard, application.quiesced():
            application.confirm()
        assert heard == [], "what it does while volumes are suspended"

    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
    def test_it_is_resumed_without_us(self, subject: Subject, signum: signal.Signals) -> None:
        def die(application: Application) -> None:
            with application.quiesced():
                os.kill(os.getpid(), signum)
                time.sleep(3600)

        pid, text = _elsewhere(lambda: subject.make(self.deadline), die)
        try:
            os.waitpid(pid, os.WUNTRACED)
            resume.run("", "subject", text)
            self._assert_goes(subject, f"after we got {signum.name} and what was registered has been run")
            resume.run("", "subject", text)
            self._assert_goes(subject, "after that has been run again")
        finally:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def test_resuming_what_does_not_stand_still_does_nothing(self, subject: Subject) -> None:
        with self._ready(subject) as application:
            resume.run("", "subject", resume.written(application.intents()))
        self._assert_goes(subject, "after it was resumed for nothing")

    def test_what_somebody_else_has_stopped_stays_so(self, subject: Subject) -> None:
        stopped = subject.stopped()
        if stopped is None:
            pytest.skip("nobody else stops this application")
        with stopped:
            with self._made(subject) as application, suppress(BorgLvmError):  # it may well refuse
                application.probe()
                _prepare(application)
                intents = resume.written(application.intents())
                with application.quiesced():
                    pass
                resume.run("", "subject", intents)
            assert not subject.write(self.moment), "it has resumed what somebody else had stopped"
        self._assert_goes(subject, "after the other has resumed it")

    def test_it_knows_a_right_snapshot_from_a_wrong_one(self, subject: Subject, tmp_path: Path) -> None:
        with self._ready(subject) as application:
            with application.quiesced():
                application.confirm()
            added = application.added()
        scratch = tmp_path / "scratch"
        scratch.mkdir(mode=0o711)
        with _there(added):
            right = application.verify(str(scratch))
        damaged = subject.damaged()
        if not right and damaged is None:
            pytest.skip("it verifies nothing in its snapshot")
        assert right, "it does not report what it has verified"
        assert damaged is not None, "the contract needs a wrong snapshot: Subject.damaged"
        with damaged, pytest.raises(QuiesceError):
            application.verify(str(scratch))
        self._assert_goes(subject, "after its snapshot was verified")

    def test_it_looks_at_a_snapshot_without_changing_it(self, subject: Subject, tmp_path: Path) -> None:
        with self._ready(subject) as application, application.quiesced():
            application.confirm()
        with SPY.listening() as heard, suppress(BorgLvmError):
            application.verify(str(tmp_path))
        keeps = [os.path.realpath(path) for path in subject.keeps()]
        assert [words for words in heard if "opens" in words and any(path in words for path in keeps)] == []

    def _assert_goes(self, subject: Subject, when: str) -> None:
        assert subject.write(self.patience), f"it takes no writes {when}"

    @contextmanager
    def _made(self, subject: Subject) -> Iterator[Application]:
        application = subject.make(self.deadline)
        try:
            yield application
        finally:
            application.close()

    @contextmanager
    def _ready(self, subject: Subject) -> Iterator[Application]:
        """Give an application that can be quiesced now."""
        with self._made(subject) as application:
            application.probe()
            _prepare(application)
            application.intents()
            yield application


@contextmanager
def _there(added: Sequence[Added]) -> Iterator[None]:
    """Have what is put into a snapshot lie in the original, which is verified in its place, within the block."""
    with ExitStack() as stack:
        for file in added:
            added_files.write(file.directory, file, below="/")
            stack.callback(os.unlink, os.path.join(file.directory, file.name))
        yield


def _prepare(application: Application) -> None:
    for _ in application.prepare() or ():
        time.sleep(0.05)


def _elsewhere(make: Callable[[], Application], work: Callable[[Application], None]) -> tuple[int, str]:
    """Do `work` with a prepared application in another process; return its id and the application's intents."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns where there are threads, as pytest-xdist's: the child takes none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            application = make()
            application.probe()
            _prepare(application)
            os.write(write_end, resume.written(application.intents()).encode() + b"\n")
            work(application)
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.readline().decode().strip()
    assert text, "it could not be prepared in a process of its own"
    return pid, text
