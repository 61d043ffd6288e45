"""Containers of podman and Docker: what their engine tells of them, and pausing them."""
