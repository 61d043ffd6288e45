"""The test lab: runs a command on a kernel with real LVM, and believes only what it can prove."""
