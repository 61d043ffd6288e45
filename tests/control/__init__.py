"""Seeded faults: a control of `make test`, which must catch each of them."""
