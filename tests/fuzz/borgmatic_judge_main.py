"""Asks the borgmatic of this very interpreter, by its own modules, what it has borg read; and borg, what that is.

Started by path with the interpreter of a borgmatic, of 1.7.7 or of 2, so it imports nothing of ours. Reads cases as
lines of JSON, `[cwd, environment, arguments]`, and answers each by a line: a list of paths, or why there is none.
"""
# mypy: ignore-errors

import contextlib
import io
import json
import os
import sys

from borg import patterns as borg_patterns
from borgmatic.commands import arguments
from borgmatic.config import collect, load, validate

MODERN = not hasattr(arguments, "SUBPARSER_ALIASES")
SCHEMA_FILE = validate.schema_filename()
SCHEMA = load.load_configuration(SCHEMA_FILE)
load_file = load.load_configuration
load.load_configuration = lambda name, *rest: SCHEMA if name == SCHEMA_FILE else load_file(name, *rest)
if MODERN:
    make_parsers = arguments.make_parsers
    kept = make_parsers(SCHEMA, ())
    # Making them takes long, and depends on the arguments only where an element of a list is among them.
    arguments.make_parsers = lambda schema, args: make_parsers(schema, args) if "[" in "".join(args) else kept


def roots_in(file):
    """Have borg read a file of patterns."""
    roots = []
    with open(file) as lines:
        borg_patterns.load_pattern_file(lines, roots, [])
    return roots


def modern(args):
    """Yield what borgmatic 2 has borg read: its file of patterns, read by borg."""
    from borgmatic.actions import pattern
    from borgmatic.borg.pattern import write_patterns_file
    from borgmatic.config import paths

    parsed = arguments.parse_arguments(SCHEMA, *args)
    options = parsed["global"]
    if "create" not in parsed:
        return
    for name in list(collect.collect_config_filenames(tuple(options.config_paths))):
        config, _, _ = validate.parse_configuration(name, SCHEMA_FILE, parsed, options.overrides, options.resolve_env)
        if "create" in config.get("skip_actions", ()):
            continue
        for repository in config["repositories"]:
            merged = load.merge_repository_configuration(repository, config)
            working = paths.get_working_directory(merged)
            found = pattern.process_patterns(
                pattern.collect_patterns(merged, working), merged, working, "/run/b/./borgmatic"
            )
            with write_patterns_file(found, None) or contextlib.nullcontext() as file:
                yield working, roots_in(file.name) if file else []


def old(args):
    """Yield what borgmatic 1.7.7 has borg read: the command line that it would start, read by borg."""
    from borg.archiver import Archiver
    from borgmatic.borg import create

    calls = []

    def parse(command, *_, working_directory=None, **__):
        os.chdir(working_directory or ".")
        calls.append((working_directory, Archiver().parse_args(list(command[1:])).paths))

    create.execute_command = parse
    parsed = arguments.parse_arguments(*args)
    options = parsed["global"]
    if "create" not in parsed:
        return
    cwd = os.getcwd()
    for name in list(collect.collect_config_filenames(tuple(options.config_paths))):
        config, _ = validate.parse_configuration(name, SCHEMA_FILE, options.overrides, options.resolve_env)
        for repository in config["location"]["repositories"]:
            os.chdir(cwd)
            create.create_archive(False, repository, config["location"], config.get("storage", {}), "1.2.4")
    yield from calls


def answer(cwd, environment, args):
    """Return the paths, absolute, or what is wrong."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            found = list((modern if MODERN else old)(args))
        absolute = [os.path.join(cwd, working or "", path) for working, roots in found for path in roots]
        return [os.path.normpath(path) for path in absolute if not path.startswith("/run/b/")]
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error} {out.getvalue()[-300:]}"


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
