"""The plugins that come with borg-lvm; installed as `borg_lvm_hooks`, registered like a stranger's."""
