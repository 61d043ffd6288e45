"""Virtual machines of QEMU: their guests' file systems frozen by the agent that runs in them."""
