"""Containers of podman and Docker: what their engine reports of them, and pausing them."""
