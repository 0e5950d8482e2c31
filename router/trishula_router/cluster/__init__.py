"""What ``trishula init`` makes of a few names: the working directory of a bus, with a directory for each machine.

:mod:`.plan` reads the names, :mod:`.authority` issues certificates, :mod:`.working_files` says what each file holds,
and :mod:`.next_steps` what a person does with them. Nothing here writes: the command does.
"""
