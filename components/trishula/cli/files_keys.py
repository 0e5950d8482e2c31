"""``trishula files key|trust``: whose signatures on files count."""

from __future__ import annotations

from pathlib import Path

import click

from trishula.cli.known import require_agent_name
from trishula.cli.state import State, json_option

__all__ = ["key", "trust"]


@click.command()
@json_option
@click.pass_obj
def key(state: State) -> None:
    """Print the key that others verify this agent's files with; it is no secret.

    It is made from the agent's token, or from the key that it joins with: a new one of these is a new key here, which
    others have to trust too.

    \b
    Examples:
      trishula files key
      trishula --profile dc files key --json
    """
    # Late, because a wrong command line is told without them.
    from trishula.files.signature import FileKey
    from trishula.settings import load

    settings = load(url=state.url, profile=state.profile)
    public = FileKey.from_token(settings.secret).public.hex()
    state.show({"agent": settings.agent, "key": public}, lambda: f"{settings.agent} {public}")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("agent")
@click.argument("public", metavar="KEY")
@json_option
@click.pass_obj
def trust(state: State, directory: Path, agent: str, public: str) -> None:
    """Have the folder DIR take files that AGENT signed with KEY.

    Both are what "trishula files key" prints on the agent's machine.

    \b
    Examples:
      trishula files trust ~/trishula agni 0f3a…
    """
    from trishula.files.signature import KEY_RULE, KEYS_FILE, KnownKeys, is_key

    require_agent_name(agent, "AGENT")
    if not is_key(public.lower()):
        raise click.UsageError(f"KEY is {public!r}; it must be {KEY_RULE}")
    is_new = KnownKeys(directory / KEYS_FILE).trust(agent, bytes.fromhex(public))
    told = {"agent": agent, "key": public.lower(), "new": is_new}
    state.show(told, lambda: f"{agent}'s files count here{'' if is_new else ', as before'}")
