"""The whole hook surface, on one screen. A plugin implements what it needs and ignores the rest.

    from borg_lvm.plugins.manager import hookimpl

    @hookimpl
    def borg_lvm_read_command(invocation):
        if invocation.program != "mytool":
            return None
        ...

    @hookimpl
    def borg_lvm_application():
        return Kind(levels={"lock": "no writes"}, options=Options, make=MyServer)

`borg_lvm_taint` marks what such a command has saved after a snapshot was lost, `borg_lvm_read_back` reads it back
(`prove`); `borg_lvm_discover` finds applications that run here.

Register the module by an entry point of the group `borg_lvm`; it is loaded only when the configuration's `hooks`
list (or `--hook`) names it, or an entry of `applications`; and by `borg-lvm discover`, which loads all that are
installed. Hooks are called by the core, one plugin at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from borg_lvm.plugins.application import ApplicationType, DiscoveredApplication
    from borg_lvm.plugins.backup_command import Invocation, Marked, Reading, Tainted
    from borg_lvm.plugins.read_back import ReadBack

hookspec = pluggy.HookspecMarker("borg_lvm")


@hookspec(firstresult=True)
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Say which paths this command line reads and which must stay live for it; None if it is not yours.

    Called once, before anything is done. May read the files that the command line names; must not write, start
    a process or open a connection. What cannot be understood goes into `Reading.problems`, never into a guess.
    """


@hookspec(firstresult=True)
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark what this command line has saved after a snapshot was lost; None if it is not yours.

    Called after the release. Touches nothing but what this very run has made, and nothing that was finished before the
    loss (`Tainted.sound_until`); what is not certain is left alone, and a sentence says so.
    """


@hookspec(firstresult=True)
def borg_lvm_read_back(invocation: Invocation) -> ReadBack | None:
    """Say how what this command line saves is read back (`borg_lvm.plugins.read_back`); None if it is not yours.

    Called before anything is done, and again when the command has ended. Starts nothing itself.
    """


@hookspec
def borg_lvm_application() -> ApplicationType:
    """Describe the kind of application that this plugin quiesces (`borg_lvm.plugins.application`).

    Called once, when an entry of `applications` names the plugin. The core makes an `Application` for each entry and
    drives it: hooks alone, one for freezing and one for thawing, would leave nobody who knows what is quiesced.
    """
    raise NotImplementedError  # pluggy never calls a specification


@hookspec
def borg_lvm_discover() -> Sequence[DiscoveredApplication]:
    """Find applications of this plugin's kind that run here, each as an entry of the configuration.

    Called for `borg-lvm discover`, `check` and `hooks NAME`. Changes nothing, connects to no process that is not root's
    (it may be a stranger's), and leaves out what it cannot see. All plugins together have a short time.
    """
    raise NotImplementedError
