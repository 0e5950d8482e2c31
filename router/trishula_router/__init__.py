"""What runs in a node: the services that Crossbar's router worker embeds, and the commands that start and check it."""

from trishula.distribution import stranger as _stranger

if (_fault := _stranger()) is not None:
    raise ImportError(_fault)
