"""What a server gets beside the program: units, a udev rule, man pages, completions and examples."""
