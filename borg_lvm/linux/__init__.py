"""System calls of Linux that Python does not have."""
