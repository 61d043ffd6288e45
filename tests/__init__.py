"""Tests of borg-lvm, and the lab that they run in."""
