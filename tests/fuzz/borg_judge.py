"""Runs under the Python of an installed borg, and reads command lines with borg's own parser: one JSON line each.

It gets `{"argv": […], "cwd": …}` and answers with what that borg would do, or null if it refuses. No code of ours.
Its argument is the name of the program: what `with-lock` runs is read as well, if it is that program again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from typing import Any


def parse(archiver: Any, argv: list[str]) -> Any:
    """Return the parsed arguments, None if borg refuses them, "told" if it only prints something."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return archiver.parse_args(argv)
    except SystemExit as error:
        return "told" if error.code in (0, None) else None
    except Exception:
        return None


def version() -> str:
    return str(importlib.import_module("borg").__version__)


def name_of(archiver: Any, args: Any) -> str:
    func = getattr(args, "func", None)
    if func is None:
        func = archiver.get_func(args)
    return getattr(getattr(func, "__func__", func), "__name__", "")


NICE = ["nice", "-n", "10"]


def answer(archiver: Any, argv: list[str], own: str, depth: int = 0) -> Any:
    args = parse(archiver, list(argv))
    if args is None or args == "told":
        return args and {"action": args}
    name = name_of(archiver, args)
    if name == "do_with_lock":
        command = [args.command, *args.args]
        words = command[len(NICE) :] if command[: len(NICE)] == NICE else command
        if words and os.path.basename(words[0]) == own and depth < 5:
            within = answer(archiver, words[1:], own, depth + 1)
            return within and {**within, "runs": command}
        return {"action": "with-lock", "runs": command}
    if name != "do_create":
        return {"action": "other"}

    def get(attribute: str) -> Any:
        return getattr(args, attribute, None) or False

    roots = [*(get("pattern_roots") or []), *args.paths]
    elsewhere = get("paths_from_stdin") or get("paths_from_command") or get("paths_from_shell_command")
    content = get("content_from_command")
    early = {f"2.0.0b{number}" for number in range(6)}
    keeps_empty = not version().startswith("2.") or version() in early
    return {
        "action": "create",
        "elsewhere": bool(elsewhere),
        "roots": []
        if elsewhere or content
        else sorted({os.path.abspath(root) for root in roots if root != "-" and (root or keeps_empty)}),
        "dry_run": bool(get("dry_run")),
        "one_file_system": bool(get("one_file_system")),
    }


def lists(parser: Any) -> tuple[list[Any], list[tuple[Any, str]]]:
    """Return the actions of a parser whose default is a list, and the defaults that are: borg appends to them."""
    actions = [action for action in parser._actions if isinstance(action.default, list)]
    defaults = [(parser._defaults, name) for name, value in parser._defaults.items() if isinstance(value, list)]
    for action in parser._actions:
        for one in action.choices.values() if isinstance(action.choices, dict) else ():
            more = lists(one)
            actions, defaults = actions + more[0], defaults + more[1]
    return actions, defaults


def kept(parser: Any) -> Any:
    """Return what gives this parser each time, without what parsing has left in it: to make one takes borg longer."""
    actions, defaults = lists(parser)

    def fresh() -> Any:
        for action in actions:
            action.default = []
        for values, name in defaults:
            values[name] = []
        return parser

    return fresh


def main() -> None:
    # Debian's borg 2 has a directory of its own, which its program puts there.
    own = sys.argv[1]
    if own == "borg2":
        sys.path[:0] = filter(os.path.isdir, ["/usr/lib/borgbackup2"])

    archiver = importlib.import_module("borg.archiver").Archiver()
    archiver.build_parser = kept(archiver.build_parser())
    out = sys.stdout
    print(json.dumps(version()), file=out, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        os.chdir(question["cwd"])
        print(json.dumps(answer(archiver, question["argv"], own)), file=out, flush=True)


if __name__ == "__main__":
    main()
