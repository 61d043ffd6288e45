"""Where each kind of file lies: below /usr/local for `borg-lvm setup`, elsewhere for a distribution's package."""

from __future__ import annotations

from borg_lvm.records import dataclass


@dataclass(frozen=True)
class Layout:
    """Absolute paths of directories. `programs` is where `borg-lvm` itself lies, which the units start.

    Source: systemd.unit(5) for `units`, udev(7) for `udev`; `share` is the parent of `man` and of the directories in
    which bash-completion, fish and zsh look for completions; Debian's zsh has one of its own for packages.
    """

    programs: str
    units: str = "/usr/local/lib/systemd/system"
    udev: str = "/etc/udev/rules.d"
    share: str = "/usr/local/share"
    zsh: str = "/usr/local/share/zsh/site-functions"

    @property
    def examples(self) -> str:
        """The directory of the examples."""
        return f"{self.share}/doc/borg-lvm/examples"

    @property
    def completions(self) -> dict[str, str]:
        """The file in which each shell looks for what it completes."""
        return {
            "bash": f"{self.share}/bash-completion/completions/borg-lvm",
            "zsh": f"{self.zsh}/_borg-lvm",
            "fish": f"{self.share}/fish/vendor_completions.d/borg-lvm.fish",
        }
