"""``trishula completion``: the script that lets a shell complete commands and options; click's own."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from trishula.cli.state import State, json_option

__all__ = ["completion"]

#: Read by click: the shell asks the program itself what fits, so that commands of other packages are completed too.
_VARIABLE = "_TRISHULA_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@click.pass_obj
@click.pass_context
def completion(ctx: click.Context, state: State, shell: str) -> None:
    """Print the script that completes commands, options and their values in a shell.

    \b
    Examples:
      trishula completion bash > ~/.local/share/bash-completion/completions/trishula
      trishula completion zsh > ~/.zfunc/_trishula
      trishula completion fish > ~/.config/fish/completions/trishula.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "trishula", _VARIABLE).source()
    state.show({"shell": shell, "script": script}, lambda: script)
