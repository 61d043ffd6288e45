"""Loads borgmatic's configuration files as borgmatic does: includes, merges, constants, environment, old sections.

Follows borgmatic 2.1.10 (borgmatic/config/*.py); imports nothing of it, because it lives in an environment of its own.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from borg_lvm.command import Invocation

if TYPE_CHECKING:
    import yaml

Config = dict[str, Any]

# Sections of old configurations, in the order in which borgmatic moves their options up.
SECTIONS = ("location", "storage", "retention", "consistency", "output", "hooks")

# Options of a repository that stay there; any other one overrules the same option at the top level.
REPOSITORY_OPTIONS = (
    "append_only",
    "encryption",
    "id_hash",
    "key_location",
    "label",
    "make_parent_directories",
    "path",
    "storage_quota",
)

# Settings that borgmatic hands to borg in its environment (borg/environment.py).
ENVIRONMENT = {
    "borg_base_directory": "BORG_BASE_DIR",
    "borg_config_directory": "BORG_CONFIG_DIR",
    "borg_cache_directory": "BORG_CACHE_DIR",
    "borg_security_directory": "BORG_SECURITY_DIR",
    "borg_keys_directory": "BORG_KEYS_DIR",
    "borg_key_file": "BORG_KEY_FILE",
    "temporary_directory": "TMPDIR",
}

MERGE = "tag:yaml.org,2002:merge"
DEEPEST = 30
"""So many files may include one another; each takes a dozen of Python's frames."""


class ConfigurationError(Exception):
    """A configuration cannot be followed; the text is a whole sentence."""


def default_paths(env: Mapping[str, str], home: str) -> list[str]:
    """Return where borgmatic looks without `--config` (config/collect.py)."""
    user = env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return [
        "/etc/borgmatic/config.yaml",
        "/etc/borgmatic.d",
        os.path.join(user, "borgmatic/config.yaml"),
        os.path.join(user, "borgmatic.d"),
    ]


def collect(invocation: Invocation, given: list[str]) -> list[str]:
    """Return the configuration files, absolute: of a folder all its `.yaml` and `.yml` files by name."""
    defaults = default_paths(invocation.env, invocation.home())
    files = []
    for path in map(invocation.absolute, given or defaults):
        if not os.path.exists(path) and os.path.realpath(path) in map(os.path.realpath, defaults):
            continue
        if not os.path.isdir(path):
            files.append(os.path.normpath(path))
            continue
        names = sorted(os.listdir(path)) if os.access(path, os.R_OK) else []
        found = [os.path.join(path, name) for name in names if name.endswith((".yaml", ".yml"))]
        files += [os.path.normpath(name) for name in found if not os.path.isdir(name)]
    return files


def expand_user(path: str, invocation: Invocation) -> str:
    """Expand a leading `~` or `~user` as Python's expanduser does in the program's environment."""
    if not path.startswith("~"):
        return path
    user, slash, rest = path[1:].partition("/")
    if not user:
        return invocation.home().rstrip("/") + slash + rest or "/"
    try:
        return pwd.getpwnam(user).pw_dir.rstrip("/") + slash + rest or "/"
    except KeyError:
        return path


class Loader:
    """Loads one configuration file with all that it includes; `files` are the files that were read."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.files: list[str] = []
        self._depth = 0

    def load(self, path: str) -> Any:
        """Return the file's data.

        Errors: ConfigurationError, with a sentence for `Reading.problems`.
        """
        import yaml

        if self._depth > DEEPEST:
            raise ConfigurationError(f"borgmatic's configuration {path!r} includes itself")
        self.files.append(path)
        self._depth += 1
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            loader = _loader_class()(text, self, os.path.dirname(path))
            try:
                return loader.get_single_data()
            finally:
                loader.dispose()
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            raise ConfigurationError(f"borgmatic's configuration {path!r} cannot be read: {why}") from error
        finally:
            self._depth -= 1

    def include(self, name: str, folder: str) -> Any:
        """Return the data of an included file, looked for in the working directory and beside its includer."""
        name = expand_user(name, self.invocation)
        if os.path.isabs(name):
            return self.load(name)
        folders = {os.path.normpath(self.invocation.cwd), os.path.abspath(os.path.join(self.invocation.cwd, folder))}
        found = [path for path in sorted(os.path.join(each, name) for each in folders) if os.path.exists(path)]
        if len(found) > 1:
            raise ConfigurationError(f"borgmatic's include {name!r} may be any of {', '.join(found)}")
        if not found:
            raise ConfigurationError(f"borgmatic's include {name!r} is not found in {' or '.join(sorted(folders))}")
        return self.load(found[0])


def _loader_class() -> Any:
    """Make the YAML loader: YAML 1.2's scalars and borgmatic's own tags, on PyYAML's nodes."""
    import yaml

    class ConfigurationLoader(yaml.SafeLoader):
        def __init__(self, text: str, owner: Loader, folder: str) -> None:
            super().__init__(text)
            self.owner, self.folder = owner, folder

        def include(self, node: yaml.Node) -> Any:
            if isinstance(node, yaml.ScalarNode):
                return self.owner.include(node.value, self.folder)
            if isinstance(node, yaml.SequenceNode) and node.value and isinstance(node.value[0], yaml.ScalarNode):
                return [self.owner.include(each.value, self.folder) for each in reversed(node.value)]
            raise ConfigurationError("borgmatic's tag !include takes a file name or a list of them")

        def misplaced(self, node: yaml.Node) -> Any:
            raise ConfigurationError(f"borgmatic's tag {node.tag} stands where nothing is merged")

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Merge by ourselves: in which order PyYAML does so depends on its version."""
            pairs = [pair for key, value in node.value if key.tag == MERGE for pair in _merged_in(self, value)]
            node.value = _merged([*pairs, *(pair for pair in node.value if pair[0].tag != MERGE)])

    ConfigurationLoader.yaml_implicit_resolvers = {}
    for tag, expression, first in _scalars():
        ConfigurationLoader.add_implicit_resolver(tag, expression, first)
    ConfigurationLoader.add_constructor("!include", ConfigurationLoader.include)
    ConfigurationLoader.add_constructor("!retain", ConfigurationLoader.misplaced)
    ConfigurationLoader.add_constructor("!omit", ConfigurationLoader.misplaced)
    return ConfigurationLoader


def _scalars() -> Iterator[tuple[str, re.Pattern[str], list[str]]]:
    """Yield YAML 1.2's plain scalars as ruamel.yaml reads them: no `yes`, no `12:30`, octal numbers by `0o`."""
    prefix = "tag:yaml.org,2002:"
    yield prefix + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    yield prefix + "int", re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$"), list("-+0123456789")
    yield (
        prefix + "float",
        re.compile(
            r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    )
    yield prefix + "merge", re.compile(r"^(?:<<)$"), ["<"]
    yield prefix + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]


def _as_node(data: Any) -> yaml.Node:
    import yaml

    node: yaml.Node = yaml.representer.SafeRepresenter().represent_data(data)
    return node


def _merged_in(loader: Any, node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return what is merged in by a `<<`: the pairs of a mapping or, the last one first, of several."""
    import yaml

    if node.tag == "!include":
        node = _as_node(loader.include(node))
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        pairs: list[tuple[yaml.Node, yaml.Node]] = node.value
        return pairs
    if isinstance(node, yaml.SequenceNode):
        return [pair for each in reversed(node.value) for pair in _merged_in(loader, each)]
    raise yaml.constructor.ConstructorError(None, None, "expected mappings to merge", node.start_mark)


def _merged(pairs: list[tuple[yaml.Node, yaml.Node]]) -> list[tuple[yaml.Node, yaml.Node]]:
    """Merge the values of equal keys deeply (deep_merge_nodes in borgmatic's config/load.py)."""
    import yaml

    groups: dict[Any, list[tuple[yaml.Node, yaml.Node]]] = {}
    for key, value in pairs:
        groups.setdefault(key.value if isinstance(key.value, str) else id(key), []).append((key, value))
    out: list[tuple[yaml.Node, yaml.Node]] = []
    for name, group in groups.items():
        key, last = group[-1]
        values = [value for _, value in group]
        if len({type(value) for value in values}) > 1:
            raise ConfigurationError(f"borgmatic's option {name!r} is merged from values of different kinds")
        if isinstance(last, yaml.ScalarNode):
            out.append((key, last))
        elif last.tag == "!retain" and len(group) > 1:
            last.tag = f"tag:yaml.org,2002:{'map' if isinstance(last, yaml.MappingNode) else 'seq'}"
            out.append((key, last))
        else:
            out.append((key, _combined(last, values)))
    return out


def _combined(last: yaml.Node, values: list[yaml.Node]) -> yaml.Node:
    import yaml

    items = [item for value in values for item in value.value]
    if isinstance(last, yaml.MappingNode):
        return yaml.MappingNode(last.tag, _merged(items), last.start_mark, last.end_mark)
    if len(values) > 1:
        omitted = [item.value for item in items if item.tag == "!omit"]
        items = [item for item in items if item.value not in omitted]
    return yaml.SequenceNode(last.tag, items, last.start_mark, last.end_mark)


CONSTANT = re.compile(r"(?P<left>\\)?\{(?P<name>[\w]+)(?P<right>\\)?\}")


def apply_constants(value: Any, constants: Any) -> Any:
    """Put the constants in, in place (config/constants.py), for options that are no shell commands."""
    if not value or not constants:
        return value
    if isinstance(value, str):
        return _coerced(CONSTANT.sub(lambda match: _constant(match, constants), value))
    if isinstance(value, list):
        for index, each in enumerate(value):
            value[index] = apply_constants(each, constants)
    elif isinstance(value, dict):
        for name, each in value.items():
            value[name] = apply_constants(each, constants)
    return value


def _constant(match: re.Match[str], constants: Mapping[str, Any]) -> str:
    if match["left"] and match["right"]:
        return "{" + match["name"] + "}"
    value = constants.get(match["name"])
    return match[0] if value is None else str(value)


def _coerced(value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        return {"true": True, "True": True, "false": False, "False": False}.get(value, value)


VARIABLE = re.compile(r"(?P<escape>\\)?(?P<variable>\$\{(?P<name>[A-Za-z0-9_]+)((:?-)(?P<default>[^}]+))?\})")


def resolve_environment(item: Any, env: Mapping[str, str]) -> Any:
    """Put the environment's `${NAME}` and `${NAME:-default}` in, in place (config/environment.py).

    Errors: ConfigurationError for a variable that is not set.
    """
    if isinstance(item, str):
        return VARIABLE.sub(lambda match: _variable(match, env), item)
    if isinstance(item, list):
        for index, each in enumerate(item):
            item[index] = resolve_environment(each, env)
    elif isinstance(item, dict):
        for key, value in item.items():
            item[key] = resolve_environment(value, env)
    return item


def _variable(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["escape"] is not None:
        return match["variable"]
    value = env.get(match["name"], match["default"])
    if value is None:
        raise ConfigurationError(f"borgmatic's configuration wants the environment's {match['name']}, which is not set")
    return value


def move_sections(config: Config) -> None:
    """Move the options of old sections to the top, and old repository strings into mappings (config/normalize.py)."""
    for name in SECTIONS:
        section = config.get(name)
        if isinstance(section, dict):
            del config[name]
            config.update(section)
    config.setdefault("bootstrap", {})
    stored = config.pop("store_config_files", None)
    if stored is not None:
        config["bootstrap"] = {**(config["bootstrap"] or {}), "store_config_files": stored}
    config["repositories"] = [
        {"path": each} if isinstance(each, str) else each for each in config.get("repositories") or []
    ]


def per_repository(config: Config) -> Iterator[Config]:
    """Yield the configuration as it counts for each repository, that one as its `repository`."""
    for repository in config["repositories"] or [{}]:
        own = {name: value for name, value in repository.items() if name not in REPOSITORY_OPTIONS}
        yield {**config, **own, "repository": repository}
