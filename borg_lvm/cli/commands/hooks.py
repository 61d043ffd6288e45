"""`borg-lvm hooks`: the plugins that are installed."""

from __future__ import annotations

import argparse

from borg_lvm.cli import options, output
from borg_lvm.log import Log
from borg_lvm.plugins import manager


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print all plugins, or what one offers."""
    if args.plugin:
        from borg_lvm.cli import plugin_help

        output.lines(plugin_help.plugin(args.plugin, options.settings(args)))
        return 0
    settings = options.settings(args)
    offered = manager.installed()
    manager.refuse_applications({plugin.name: plugin.module for plugin in offered if plugin.name in settings.hooks})
    named = [*settings.hooks, *(entry.plugin.text for entry in settings.applications)]
    loaded = manager.load(dict.fromkeys(named))
    for plugin in offered:
        module = loaded.get_plugin(plugin.name)
        state = "enabled" if module else "installed"
        what = ((module.__doc__ or "").strip().splitlines() or [""])[0] if module else "not loaded"
        output.text(f"{plugin.name:12} {state:10} {plugin.package} {plugin.version:10} {what}\n")
    return 0
