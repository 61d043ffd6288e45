"""The command line: what is understood, what is refused, and how little is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm import errors
from borg_lvm.cli import help_form, main, parser, usage_errors
from borg_lvm.errors import BorgLvmError, UsageError


def command(*argv: str) -> list[str]:
    words: list[str] = parser.parser().parse_args(argv).command
    return words[1:] if words[:1] == ["--"] else words


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "--", "tar", "-cf", "x", "/srv"], ["tar", "-cf", "x", "/srv"]),
        (["run", "tar", "-cf", "x", "/srv"], ["tar", "-cf", "x", "/srv"]),
        (["run", "--path", "/srv", "--", "tar", "--", "-x"], ["tar", "--", "-x"]),
        (["run", "--keep", "borg", "create", "--path", "x"], ["borg", "create", "--path", "x"]),
        (["run", "--", "--odd-name"], ["--odd-name"]),
        (["plan", "--json", "--", "borg", "--log-json", "--help"], ["borg", "--log-json", "--help"]),
    ],
)
def test_the_command_is_left_as_it_is(argv: list[str], words: list[str]) -> None:
    assert command(*argv) == words


def test_options_may_be_given_more_than_once() -> None:
    args = parser.parser().parse_args(
        ["run", "--path", "/a", "--path", "/b", "--live", "/c", "--hook", "x", "--", "tar"]
    )
    assert (args.path, args.live, args.hook) == (["/a", "/b"], ["/c"], ["x"])


@pytest.mark.parametrize(
    ("argv", "ours"),
    [
        (["run", "--log-json", "--", "borg"], ["run", "--log-json"]),
        (["run", "--", "borg", "--log-json"], ["run"]),
        (["run", "--", "borg", "--", "x"], ["run"]),
        (["clean"], ["clean"]),
        ([], []),
    ],
)
def test_what_comes_after_the_dashes_is_not_ours(argv: list[str], ours: list[str]) -> None:
    assert main._ours(argv) == ours


def refusal(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main.main(argv) == UsageError.status
    shown = capfd.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing to do"),
        (["fly"], "borg-lvm has no command 'fly'"),
        (["borg", "create", "r::a", "/srv"], "to back up with it: borg-lvm run -- borg …"),
        (["runn"], "did you mean run?"),
        (["rnu"], "did you mean run?"),
        (["--config", "x", "plan", "--", "tar"], "borg-lvm plan --config …"),
        (["--config=x", "run", "--", "tar"], "borg-lvm run --config=x …"),
        (["help"], "borg-lvm --help"),
        (["restore"], "restore with the backup program itself"),
        (["run", "--paths", "/srv", "--", "tar"], "did you mean --path?"),
        (["plan", "--snapshotsize=5G", "--", "tar"], "did you mean --snapshot-size?"),
        (["--fly"], "unrecognized arguments: --fly"),
        (["run", "--fly", "--", "tar"], "unrecognized arguments: --fly"),
        (["run", "--kee", "--", "tar"], "unrecognized arguments: --kee"),
        (["run"], "no command to run"),
        (["run", "--"], "no command to run"),
        (["plan", "--json"], "no command to run"),
        (["run", "--path"], "error: --path needs a value\n"),
        (["run", "--path", "--", "tar"], "error: --path needs a value\n"),
        (["run", "--path=a\0b", "--", "tar"], "error: --path: 'a\\x00b': it has a zero byte"),
        (["run", "--trace=1", "--", "tar"], "error: --trace takes no value, and was given '1'\n"),
        (["run", "--quiet=1", "--", "tar"], "takes no value, and was given '1'\n"),
        (["--help=1"], "error: --help takes no value, and was given '1'\n"),
        (["report", "--json", "--html", "x"], "error: --html and --json cannot be given together\n"),
        (["setup", "--write", "--remove"], "error: --remove and --write cannot be given together\n"),
        (["end"], "error: NAME is missing\n"),
        (["begin"], "error: NAME is missing\n"),
        (["begin"], "what to do: see: borg-lvm begin --help\n"),
        (["end", "x", "--status", "300"], "error: --status: must be an exit status from 0 to 255 or a signal like"),
        (["run", "--prove", "smaple", "--", "tar"], "--prove must be off, list, sample or all, not 'smaple'\n"),
        (["run", "--prove", "smaple", "--", "tar"], "what to do: did you mean sample?\n"),
        (
            ["begin", "x", "--limit", "4h"],
            "error: --limit: must be a number of seconds from 1 to 604800, not '4h'; write 14400\n",
        ),
        (
            ["drill", "--time-limit", "0", "--", "tar"],
            "error: --time-limit: must be a number of seconds from 1 to 86400",
        ),
        (["run", "--lock-wait", "2d", "--", "tar"], "from 0 to 86400, not '2d'\n"),
        (["run", "--path", "", "--", "tar"], "the path is empty; is a variable not set?"),
        (["run", "--live=", "--", "tar"], "the path is empty; is a variable not set?"),
        (
            ["run", "--consistency", "some", "--", "tar"],
            "error: --consistency must be instant or per-volume, not 'some'\n",
        ),
        (["run", "--lock-wait", "-1", "--", "tar"], "from 0 to 86400, not '-1'"),
        (["run", "--lock-wait", "nan", "--", "tar"], "from 0 to 86400, not 'nan'"),
        (["run", "--lock-wait", "inf", "--", "tar"], "from 0 to 86400"),
        (["run", "--lock-wait", "soon", "--", "tar"], "from 0 to 86400"),
        (["clean", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert words in refusal(capfd, *argv)


def test_only_root(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "must be run as root" in refusal(capfd, "run", "--", "true")
    assert "must be run as root" in refusal(capfd, "plan", "--", "true")


def test_a_command_that_does_not_exist(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main.main(["run", "--", "no-such-program-anywhere", "x"]) == 127
    assert "nothing was done" in capfd.readouterr().err


def test_errors_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--log-json", "--fly", "--", "tar"]) == 64
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["status"]) == ("error", 64)
    assert "--fly" in line["message"]
    main.main(["run", "--fly", "--", "tar", "--log-json"])
    assert capfd.readouterr().err.startswith("borg-lvm: error: ")


def test_a_bug_has_its_own_status(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(main, "parser", broken)
    assert main.main(["run"]) == 70
    assert "ZeroDivisionError: oops" in capfd.readouterr().err


def test_an_error_shows_its_details_and_what_to_do(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str) -> None:
        raise errors.SourceError("bad", remedy="be good", details=("one", "two"))

    monkeypatch.setattr(main, "parser", fail)
    assert main.main([]) == 69
    assert capfd.readouterr().err.splitlines() == [
        "borg-lvm: error: bad",
        "borg-lvm:   one",
        "borg-lvm:   two",
        "borg-lvm:   what to do: be good",
    ]


def statuses(base: type[BorgLvmError] = BorgLvmError) -> Iterator[int]:
    yield base.status
    for kind in base.__subclasses__():
        yield from statuses(kind)


def test_every_exit_status_is_in_the_help() -> None:
    from borg_lvm.linux import subprocesses  # noqa: F401 - its error is one of ours

    explained = {int(word) for word in parser.EPILOG.split() if word.isdigit()}
    assert explained == {*statuses(), errors.BUG_STATUS}
    assert "128+N" in parser.EPILOG


def test_no_status_of_ours_reads_as_a_success_or_a_warning() -> None:
    """borg, restic and borgmatic: 0, 1 and 100 to 127. 126 and 127 are the shell's own words for no command at all."""
    assert all(2 <= status < 100 for status in {*statuses()} - {126, 127})


PROGRAM = """
import json, os, sys
os.geteuid = lambda: 0
from borg_lvm.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        (["run", "--help"], 0),
        (["plan", "--help"], 0),
        (["clean", "--help"], 0),
        (["hooks", "--help"], 0),
        (["--version"], 0),
        ([], 64),
        (["run", "--fly", "--", "tar"], 64),
        (["run"], 64),
        (["plan"], 64),
        (["run", "--path", "", "--", "tar"], 64),
        (["run", "--", "no-such-program-anywhere"], 127),
    ],
)
def test_help_and_refusals_load_next_to_nothing(argv: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True, check=True, timeout=60
    )
    ended, loaded = json.loads(done.stderr.splitlines()[-1])
    assert ended == status
    heavy = {
        name for name in loaded if name.split(".")[0] in ("yaml", "pluggy", "subprocess", "borg_lvm_hooks", "hooks")
    }
    assert heavy == set()
    ours = {name for name in loaded if name.startswith("borg_lvm.")}
    light = {
        "cli",
        "cli.help_form",
        "cli.main",
        "cli.output",
        "cli.parser",
        "cli.usage_errors",
        "cli.values",
        "cli.verb_parsers",
        "errors",
        "log",
    }
    asked = {"cli.commands", f"cli.commands.{argv[0]}", "cli.options"} if argv else set()
    assert ours - {f"borg_lvm.{name}" for name in light} <= {f"borg_lvm.{name}" for name in asked}
    if "--help" in argv:
        assert not ours & {f"borg_lvm.{name}" for name in asked}


def test_each_command_has_its_file() -> None:
    files = {path.stem for path in (Path(main.__file__).parent / "commands").glob("*.py")}
    assert files - {"__init__"} == set(parser.NAMES)


def test_help_fits_a_terminal_of_80_columns_and_breaks_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(help_form, "_width", lambda: 78)
    for name, verb in {"": parser.parser(), **parser.verbs()}.items():
        lines = verb.format_help().splitlines()
        assert [line for line in lines if len(line) > 80] == [], name
        assert [line for line in lines if line.endswith("-") and not line.endswith(" -")] == [], name
    indented = 7 + 4  # of a section's text, and of an example's, in a man page
    assert max(map(len, parser.EPILOG.splitlines())) <= 78 - indented


@pytest.mark.process
def test_help_names_every_verb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "borg_lvm", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert all(verb in done.stdout for verb in (*parser.NAMES, "exit status"))


def test_no_suggestion_stands_in_for_a_command_that_there_is() -> None:
    assert not usage_errors.OTHERS.keys() & set(parser.NAMES)


def test_a_program_in_whose_place_we_cannot_be_is_a_failure_to_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--in-place-of", "brog", "--", "borg"]) == 2
    shown = capfd.readouterr().err
    assert "error: --in-place-of must be borg or restic, not 'brog'\n" in shown
    assert "what to do: did you mean borg?\n" in shown
