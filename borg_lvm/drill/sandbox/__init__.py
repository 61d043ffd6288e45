"""Where a restored application is judged: processes in namespaces of their own, their root, and what they work with."""
