"""What Linux has and Python has not: system calls, device-mapper, processes; and how root opens what others own."""
