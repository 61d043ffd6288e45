"""LVM for the contract of providers, and providers that are wrong."""
