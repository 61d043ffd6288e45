"""LVM's configuration for our calls. lvm.conf(5) of a machine is made for people, and for LVM at work by itself.

It may change how reports look, add messages to them, and keep LVM from activating what a run has made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from borg_lvm.linux import subprocesses

MESSAGES = 'log{verbose=0 silent=0 command_names=0 prefix="  "} '
"""What changes the form of LVM's messages. Source: lvm.conf(5), section `log`."""
FORM = (
    'report{compact_output=0 compact_output_cols="" aligned=1 buffered=1 headings=1 prefixes=0 '
    'quoted=1 columns_as_rows=0 separator=" " list_item_separator="," binary_values_as_numeric=0 mark_hidden_devices=1 '
    'lvs_sort="vg_name,lv_name" pvs_sort="pv_name" output_format="basic"} ' + MESSAGES + "log{report_command_log=0} "
)
"""What changes the form of reports and of messages, for programs that print a report. No command of LVM's shell has it:
the shell reads one character at a time, and lets none of them change `output_format` or `report_command_log`."""
TYPED = (
    'report{compact_output=0 quoted=1 columns_as_rows=0 list_item_separator="," binary_values_as_numeric=0} ' + MESSAGES
)
"""What changes the meaning of a report with `--nameprefixes` in LVM's shell. Any other setting leaves it unreadable."""
IN_USE = MESSAGES + 'global{cache_check_executable=""}'
"""LVM's configuration for volumes that are in use: up to LVM 2.03.16 it checks the metadata of a cachevol whenever a
snapshot comes or goes, finds it in use, and leaves the volume suspended. Nothing that is active needs that check."""
SILENT = IN_USE + ' log{syslog=0 file="/dev/null"} backup{backup=0 archive=0} activation{monitoring=0}'
"""LVM's configuration for what belongs to a run: nothing is written to /etc or to a log for it, and dmeventd must not
unmount or extend what it does not know (`--monitor n` is not enough: a refresh starts it even so)."""
OURS = ' activation{volume_list=["@borg_lvm"] read_only_volume_list=["@none"]}'
"""Lets LVM activate volumes of a run, which carry that tag, whatever lvm.conf allows to be activated on this machine:
the origin is in use here. A cluster's manager has its volumes activated in this way, too."""
JSON = ("--reportformat", "json", "--nosuffix")
EXTRA_IDS = "local/extra_system_ids"
THRESHOLD = "activation/thin_pool_autoextend_threshold"
CLONES = "devices/allow_changes_with_duplicate_pvs"


def configured(lines: Iterable[str]) -> dict[str, str]:
    """Return LVM's settings, from what lvmconfig(8) prints. Pure."""
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs if value}


def is_ours(system_id: str, timeout: float) -> bool:
    """Return whether a group of this system ID may be used here, by lvmsystemid(7). Raises: ProgramError."""
    own = subprocesses.run(["lvm", "systemid"], timeout=timeout).partition(":")[2].strip()
    extra = ask([EXTRA_IDS], timeout).get("extra_system_ids", "")
    return system_id == own or f'"{system_id}"' in f'"{extra}"'


def ask(names: Sequence[str], timeout: float, profile: str = "") -> dict[str, str]:
    """Ask LVM for its settings (`section/name`), under a metadata profile if one is named. Raises: ProgramError."""
    words = ["--metadataprofile", profile] if profile else []
    return configured(subprocesses.run(["lvmconfig", "--type", "full", *words, *names], timeout=timeout).splitlines())
