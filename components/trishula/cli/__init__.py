"""The command line, `trishula`: thin commands, imported when they are called."""
