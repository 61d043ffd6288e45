"""The interface of plugins: what one implements, what it may import, and how it is found and loaded."""
