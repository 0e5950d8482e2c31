"""The second road: messages as files, in the form of TRISHULA v1, moved between machines by rsync or a sync tool."""
