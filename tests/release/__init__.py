"""Makes a release: versions, the changelog, packages that can be built again byte by byte, and what describes them."""
