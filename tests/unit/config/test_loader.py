"""Reading configuration files: merging, the line of every fault, and YAML's traps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm import config
from borg_lvm.config import LuksKey, Settings, Size
from borg_lvm.config.fields import merge
from borg_lvm.errors import ConfigError


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return str(path)


def faults(path: str) -> list[str]:
    """The faults of a file, without its name in front."""
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.status == 65
    lines = caught.value.details or (caught.value.message,)
    assert all(line.startswith(path) for line in lines)
    return [line.removeprefix(path).removeprefix(":") for line in lines]


def test_no_file_is_all_default(tmp_path: Path) -> None:
    settings = config.load(directory=str(tmp_path))
    assert settings == Settings()
    assert settings.hooks == ("borg", "borgmatic", "restic", "rsync", "tar")
    assert (settings.paths, settings.live, settings.luks) == ((), (), ())
    assert (settings.consistency, settings.snapshot.size, settings.snapshot.persistent_minor) == (
        "instant",
        Size(),
        True,
    )
    assert (settings.deadline, settings.command_timeout, settings.lock_wait) == (10, 120, 0)


def test_a_run_without_files_imports_no_yaml(tmp_path: Path) -> None:
    program = f"""
import sys
from borg_lvm import config
config.load(directory={str(tmp_path)!r})
sys.exit("yaml" in sys.modules or "jsonschema" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_explicit_file_must_exist(tmp_path: Path) -> None:
    assert faults(str(tmp_path / "none.yaml")) == [" cannot be read: No such file or directory"]


def test_every_key(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.yaml",
        """
paths: [/etc/, //srv//www]
live:
  - /var/cache
hooks: [tar]
consistency: per-volume
snapshot: {size: 20%ORIGIN, persistent_minor: false}
luks:
  - volume: vg0/home
    key_file: /root/home.key
deadline: 2.5
command_timeout: 30
lock_wait: 60
""",
    )
    settings = config.load(path)
    assert settings.paths == ("/etc", "/srv/www")
    assert settings.live == ("/var/cache",)
    assert settings.hooks == ("tar",)
    assert settings.consistency == "per-volume"
    assert settings.snapshot.size == Size("origin", 20)
    assert settings.snapshot.persistent_minor is False
    assert settings.luks == (LuksKey("vg0/home", "/root/home.key"),)
    assert (settings.deadline, settings.command_timeout, settings.lock_wait) == (2.5, 30, 60)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n", "{}\n", "snapshot:\n", "\ufeffsnapshot:\n"])
def test_empty_files_and_sections_say_nothing(tmp_path: Path, text: str) -> None:
    assert config.load(write(tmp_path / "c.yaml", text)) == Settings()


def test_later_files_merge_sections_and_replace_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", "paths: [/a, /b]\nsnapshot: {size: 5G, persistent_minor: false}\ndeadline: 5\n")
    write(tmp_path / "conf.d" / "20.yaml", "snapshot: {size: 7G}\nlock_wait: 3\n")
    write(tmp_path / "conf.d" / "10.yaml", "snapshot: {size: 6G}\npaths: [/c]\nlock_wait: 2\n")
    write(tmp_path / "conf.d" / "30.yaml~", "not: read")
    write(tmp_path / "conf.d" / ".hidden.yaml", "not: read")
    settings = config.load(directory=str(tmp_path))
    assert settings.paths == ("/c",)
    assert settings.snapshot.size == Size.parse("7G")
    assert settings.snapshot.persistent_minor is False
    assert (settings.deadline, settings.lock_wait) == (5, 3)


def test_snippets_alone_are_enough(tmp_path: Path) -> None:
    write(tmp_path / "conf.d" / "a.yaml", "deadline: 5")
    assert config.load(directory=str(tmp_path)).deadline == 5


def test_a_named_file_is_read_without_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "config.yaml", "deadline: 5")
    write(tmp_path / "conf.d" / "a.yaml", "deadline: 6")
    assert config.load(path).deadline == 5


def test_a_snippet_with_the_other_suffix_is_not_silently_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "conf.d" / "a.yml", "deadline: 5")
    with pytest.raises(ConfigError, match=r"a\.yml: is not read") as caught:
        config.load(directory=str(tmp_path))
    assert path in caught.value.message


def test_a_dangling_link_is_not_an_absent_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(directory=str(tmp_path))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    os.mkfifo(path, 0o600)
    assert faults(str(path)) == [" is not a regular file"]
    assert faults(str(tmp_path)) == [" is a directory: name one file of it"]


def test_a_named_file_below_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "")
    assert faults(f"{path}/x.yaml") == [" cannot be read: Not a directory"]


def test_faults_of_all_files_are_told_together_in_order(tmp_path: Path) -> None:
    main = write(tmp_path / "config.yaml", "snapshot: {size: 5}\npathz: [/a]\ndeadline: 0\n")
    broken = write(tmp_path / "conf.d" / "10.yaml", "paths: [/a\n")
    third = write(tmp_path / "conf.d" / "20.yaml", "\nlock_wait: -1\n")
    with pytest.raises(ConfigError, match="has 5 faults") as caught:
        config.load(directory=str(tmp_path))
    places = [line.split(": ")[0] for line in caught.value.details]
    assert places == [f"{main}:1", f"{main}:2", f"{main}:3", f"{broken}:2:1", f"{third}:2"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pathz: []", "1: pathz: unknown key; did you mean 'paths'?"),
        ("lock-wait: 5", "1: lock-wait: unknown key; did you mean 'lock_wait'?"),
        ("size: 5G", "1: size: unknown key; did you mean 'snapshot.size'?"),
        ("snapshot:\n  sise: 5G", "2: snapshot.sise: unknown key; did you mean 'snapshot.size'?"),
        ("snapshot:\n  zzz: 1", "2: snapshot.zzz: unknown key; valid in snapshot: size, grow, reserve, "),
        ("<<: {}", "1: <<: unknown key; merge keys are not understood here"),
        ("5: x", "1: 5: unknown key; valid here: paths, live"),
        ("paths: /srv", "1: paths: must be a list of absolute paths, not the text '/srv'; write [/srv]"),
        ("paths:", "1: paths: must be a list of absolute paths, not nothing; write [] for an empty list"),
        ("paths: {/a: 1}", "not a section with keys of its own; begin each entry with '- '"),
        ("paths:\n- /a\n- b", "3: paths[1]: must be an absolute path without '..', not the text 'b'"),
        ("paths: [/a/../b]", "1: paths[0]: must be an absolute path without '..'"),
        ("paths: [[/a]]", "1: paths[0]: must be an absolute path without '..', not a list"),
        ("paths: [5]", "1: paths[0]: must be an absolute path without '..', not the number 5"),
        ("hooks: [borg, tar, borg]", "1: hooks[2]: the name 'borg' is given twice; first in line 1"),
        ("hooks: [true]", "must be the name of a plugin, not the switch true; put it into quotes"),
        ("consistency: instnt", "must be instant or per-volume, not the text 'instnt'; did you mean 'instant'?"),
        ("snapshot: 5G", "1: snapshot: must be a section with the keys size, "),
        ("snapshot: [a]", "must be a section with the keys size, "),
        ("snapshot: {size: 5}", "1: snapshot.size: '5' has no unit: write 5G or 5M"),
        ("snapshot: {size: 5:00}", "1: snapshot.size: '5:00' is not a size"),
        ("snapshot: {size: }", "1: snapshot.size: must be auto, an amount such as 5G"),
        ("snapshot: {size: true}", "1: snapshot.size: 'true' is not a size"),
        ("snapshot: {persistent_minor: yes}", "must be true or false, not the text 'yes'; write true, without quotes"),
        ("snapshot: {persistent_minor: off}", "must be true or false, not the text 'off'; write false"),
        ("snapshot: {persistent_minor: 'true'}", "not the text 'true'; write true, without quotes"),
        ("snapshot: {persistent_minor: 1}", "not the number 1; write true"),
        ("luks: [{volume: vg/lv}]", "1: luks[0].key_file: is missing; it is an absolute path"),
        ("luks: [{volume: /dev/vg/lv, key_file: /k}]", "luks[0].volume: must be a volume group and a logical volume"),
        ("luks: [{volume: a/b, key_file: /k, x: 1}]", "luks[0].x: unknown key; valid in luks[0]: volume, key_file"),
        ("luks:\n-\n", "luks[0]: must be an entry with the keys volume, key_file, not nothing"),
        (
            "luks:\n- volume: a/b\n  key_file: /k\n- volume: a/b\n  key_file: /l",
            "4: luks[1]: the volume 'a/b' is given twice",
        ),
        ("deadline: 0", "1: deadline: must be a number of seconds from 1 to 60, not the number 0"),
        ("deadline: 60.5", "1: deadline: must be a number of seconds from 1 to 60, not the number 60.5"),
        ("deadline: 010", "not the text '010'; write 10"),
        ("deadline: 0x10", "not the text '0x10'"),
        ("deadline: 1:00", "not the text '1:00'"),
        ("deadline: 1_0", "not the text '1_0'"),
        ("deadline: .inf", "not the text '.inf'"),
        ("deadline: 10s", "not the text '10s'; write 10"),
        ("deadline: '10'", "not the text '10'; write 10"),
        ("deadline: true", "not the switch true"),
        ("deadline: [1]", "must be a number of seconds from 1 to 60, not a list"),
        (f"deadline: {'9' * 5000}", "not the text '999"),
        ("- a", "1: must be a section with the keys paths, "),
        ("word", "not the text 'word'; write each key as 'KEY: VALUE'"),
        ("deadline:5", "not the text 'deadline:5'; write 'deadline: ', with a plain space after the colon"),
        ("deadline = 5", "; write 'deadline: ', with a plain space after the colon"),
        ("paths:\u00a0[/srv]", "; write 'paths: ', with a plain space after the colon"),
        ("snapshot: [a]", "page_cache, not a list; remove the '- ' before its keys"),
        ("prove: sample", "not the text 'sample'; write its keys in lines of their own, indented"),
        ("applications: [redis]", "applications[0]: must be a section with the keys"),
        ("applications: [redis]", "not the text 'redis'; write '- plugin: …'"),
        ("applications: [{plugin: redis, port: 1}]", "a plugin's own keys belong below applications[0].options"),
        ("paths:\n  -/srv", "2: paths: must be a list of absolute paths, not the text '-/srv'; put a space after"),
        ("paths: [~/x]", "not the text '~/x'; write the whole path: neither ~ nor a variable is replaced"),
        ("paths: [$HOME/x]", "neither ~ nor a variable is replaced"),
        ("paths: [srv]", "not the text 'srv'; begin it with /"),
        ("notify: [{command: mail root}]", "notify[0].command: must be a list of a program and its arguments, not"),
        ("notify: [{command: mail root}]", "; write [mail, root]"),
        ("snapshot: {chunk: 64}", "from 4K to 512K, not the number 64; write 64K, for instance"),
        ("luks: [{volume: /dev/a/b, key_file: /k}]", "not the text '/dev/a/b'; write both names, without /dev/"),
        ("view_limit: 4h", "from 60 to 604800, not the text '4h'; write 14400"),
        ("deadline: 1 minute", "not the text '1 minute'; write 60"),
        ("deadline: 1m", "not the text '1m'; write 60"),
    ],
)
def test_a_fault_names_line_key_and_what_is_valid(tmp_path: Path, text: str, fault: str) -> None:
    found = faults(write(tmp_path / "c.yaml", text))
    assert len(found) == 1
    assert fault in found[0]
    assert len(found[0]) < 400


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("on_tainted: remove", "did you mean 'rename'"),  # who writes this means `delete`
        ("paths: [5]", "put it into quotes"),  # "5" is no path either
        ("snapshot: {chunk: 64}", "put it into quotes"),
        ("paths:\n  -/srv", "write [-/srv]"),
        ("notify: [{command: mail root}]", "write [mail root]"),
        ("paths: [null]", "begin it with"),
        ("deadline: soon", "; "),
        ("deadline: 5m", "write 300"),  # a minute is the most
    ],
)
def test_no_advice_is_given_that_leads_to_the_next_fault(tmp_path: Path, text: str, advice: str) -> None:
    assert advice not in faults(write(tmp_path / "c.yaml", text))[0]


@pytest.mark.parametrize("limits", ["minimum: 5G, maximum: 1G", "minimum: 50%FREE, maximum: 10%FREE"])
def test_the_least_size_must_not_be_larger_than_the_most(tmp_path: Path, limits: str) -> None:
    with pytest.raises(ConfigError, match=r"snapshot\.minimum \(5.*\) is larger than snapshot\.maximum") as caught:
        config.load(write(tmp_path / "c.yaml", f"snapshot: {{{limits}}}"))
    assert caught.value.status == 65


@pytest.mark.parametrize("limits", ["minimum: 1G, maximum: 1G", "minimum: 5G, maximum: 10%ORIGIN", "minimum: 5G"])
def test_limits_that_may_be_right_are_accepted(tmp_path: Path, limits: str) -> None:
    config.load(write(tmp_path / "c.yaml", f"snapshot: {{{limits}}}"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("deadline: 5\ndeadline: 6", "2: deadline: is given twice; first in line 1"),
        ("snapshot:\n  size: 5G\n  'size': 6G", "3: snapshot.size: is given twice; first in line 2"),
        ("paths: [/a\ndeadline: 5", "2:9: not valid YAML: a list in [brackets]"),
        ("snapshot:\n\tsize: 5G", "2:1: not valid YAML: a tab"),
        ("paths: a: b", "1:9: not valid YAML: a ':' where no key can be"),
        ("paths: ['/a", "1:9: not valid YAML: a quoted text is begun"),
        ("paths: [@a]", "1:9: not valid YAML: a text that begins with"),
        ("paths: [*.log]", "1:10: not valid YAML: a text that begins with '*' or '&' must be quoted"),
        ("paths: *a", "1:8: not valid YAML: a text that begins with '*' must be quoted"),
        ('paths: ["\\q"]', "not valid YAML: a backslash in double quotes"),
        ("{deadline: 5", "a section in {braces}"),
        ("- a\nb: c", "2:1: not valid YAML: this line does not fit"),
        ("deadline: 5\n---\nlock_wait: 6", "2:1: not valid YAML: a second document"),
        ("deadline: 5\nx\x07: 6", "2: the invisible character U+0007 is not allowed: remove it"),
        ("[" * 3000, "1: lists or sections lie too deep"),
        ("paths: " + "[" * 300 + "]" * 300, "1: "),
        ("? [a]\n: b", "1: a key must be a word"),
        ("[snapshot]\nsize=5G", "2:1: not valid YAML: this line does not belong to the lines above it: each key"),
        (b"# a\npaths: [/\xff]", "2: the file is not text in UTF-8: save it so"),
    ],
)
def test_a_fault_of_yaml_is_told_in_plain_words(tmp_path: Path, text: str | bytes, fault: str) -> None:
    found = faults(write(tmp_path / "c.yaml", text))
    assert len(found) == 1
    assert fault in found[0]


def test_type_marks_are_refused(tmp_path: Path) -> None:
    found = faults(write(tmp_path / "c.yaml", "paths: !!python/object/apply:os.system [/a]"))
    assert any("type mark" in line for line in found)


def test_anchors_are_understood_and_loops_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "paths: &a [/a]\nlive: *a")
    assert config.load(path).live == ("/a",)
    found = faults(write(tmp_path / "c.yaml", "paths: &a [*a]"))
    assert any("contains itself" in line for line in found)


def test_what_multiplies_by_anchors_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    (fault,) = faults(write(tmp_path / "c.yaml", "\n".join(lines)))
    assert "aliases" in fault
    (fault,) = faults(write(tmp_path / "c.yaml", f"paths: [{'/a, ' * 20000}]"))
    assert "more than" in fault
    (fault,) = faults(write(tmp_path / "c.yaml", "# x\n" * 200000))
    assert "larger than" in fault


@pytest.mark.parametrize("text", ['"\\U00110000"', '"/\\ud800"', '"/a\\0b"'])
def test_a_character_that_cannot_be_is_a_fault(tmp_path: Path, text: str) -> None:
    for key in ("paths", "hooks"):
        first = faults(write(tmp_path / "c.yaml", f"{key}: [{text}]"))[0]
        assert "not allowed" in first or "not valid YAML" in first


def test_words_that_yaml_1_1_would_change_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "hooks: [on, yes, off, n, 1e3, 2024-01-01]")
    assert config.load(path).hooks == ("on", "yes", "off", "n", "1e3", "2024-01-01")


def test_overrides_of_the_command_line() -> None:
    changed = config.with_overrides(Settings(), {"snapshot.size": Size("free", 5), "lock_wait": 3.0, "paths": None})
    assert changed.snapshot.size == Size("free", 5)
    assert changed.snapshot.persistent_minor is True
    assert changed.lock_wait == 3
    assert Settings().lock_wait == 0
    with pytest.raises(KeyError):
        config.with_overrides(Settings(), {"snapshot.sise": None})


trees: Any = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), st.integers() | st.tuples(st.integers())),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.integers() | inner, max_size=4),
)


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        found |= leaves(value, (*path, name)) if isinstance(value, dict) else {(*path, name): value}
    return found


@given(trees)
def test_merging_with_nothing_or_itself_changes_nothing(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree


@given(trees, trees)
def test_every_value_of_the_later_file_wins(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    merged = leaves(merge(earlier, later))
    assert merged.items() >= leaves(later).items()
    assert merged.items() <= (leaves(earlier) | leaves(later)).items()


@given(trees, trees)
def test_a_value_that_the_later_file_does_not_touch_stays(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    merged = leaves(merge(earlier, later))
    given_later = leaves(later)
    for path, value in leaves(earlier).items():
        touched = any(path[: len(other)] == other or other[: len(path)] == path for other in given_later)
        if not touched and _sections_only(later, path):
            assert merged[path] == value


def _sections_only(tree: Any, path: tuple[str, ...]) -> bool:
    """Whether everything that the tree says on the way to a path is a section (or nothing)."""
    for name in path:
        if not isinstance(tree, dict):
            return False
        if name not in tree:
            return True
        tree = tree[name]
    return False


@given(trees, trees, trees)
def test_neither_file_is_changed_by_merging(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    before = repr((one, two, three))
    merge(merge(one, two), three)
    assert repr((one, two, three)) == before
