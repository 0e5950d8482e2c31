"""The node's commands without the rest of the command line: ``python -m trishula_router node start``."""

import click

from trishula_router.commands import node, token

if __name__ == "__main__":
    click.Group("trishula_router", commands=[node, token])(prog_name="python -m trishula_router")
