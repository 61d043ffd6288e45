"""What was typed: the command line and its subcommands."""
