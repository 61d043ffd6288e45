"""Builds real disks, volumes and file systems for a test, and takes every one of them away again."""

from tests.rig.rig import Rig
from tests.rig.volumes import Group, Kind, Volume

__all__ = ["Group", "Kind", "Rig", "Volume"]
