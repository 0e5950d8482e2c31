"""``trishula``: the root of the command line, and the one place that turns errors into words and exit codes.

A command is a thin function in a module of its own, imported when it is called, so that ``trishula send`` doesn't pay
for what ``trishula bench`` needs. Commands of other packages join through the entry points of the group
``trishula.commands``: ``node`` and ``token`` come from the package that runs a node.

A command raises; it never prints an error and never exits by itself. :func:`main` says what went wrong in one sentence
on standard error (with ``--json`` as one JSON object) and ends with a code of :class:`~trishula.exit_codes.Exit`. A
traceback is for our own bugs alone, and only if ``TRISHULA_DEBUG`` asks for it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from trishula import distribution
from trishula.cli import streams
from trishula.cli.chosen_profile import complete_profile, read_chosen
from trishula.cli.state import State
from trishula.cli.usage import Group, asks_for_help, sentence_of
from trishula.cli.words import as_json, plain
from trishula.distribution import INSTALL_NODE
from trishula.errors import RemoteError, TokenMissing, TrishulaError
from trishula.exit_codes import Exit, exit_for
from trishula.homes import home_directory
from trishula.settings import SettingsInvalid

__all__ = ["cli", "main"]

ENTRY_POINTS = "trishula.commands"

#: Command → module of this package that holds it under the same name, in the order of the help; a dotted name is of a
#: package that is built on this one.
OWN_COMMANDS = {
    "agents": "agents",
    "agent": "agent",
    "send": "send",
    "attachment": "attachment",
    "call": "call",
    "cancel": "cancel",
    "inbox": "inbox",
    "mailboxes": "mailboxes",
    "watch": "watch",
    "top": "top",
    "why": "why",
    "audit": "audit",
    "journal": "journal",
    "dead": "dead",
    "check": "check",
    "slo": "slo",
    "doctor": "doctor",
    "alert": "alert",
    "mcp": "trishula.front_door.command",
    "a2a": "trishula.a2a_door.command",
    "setup": "trishula.front_door.setup_command",
    "nudge": "trishula.front_door.nudge_command",
    "wake": "trishula.waking.command",
    "turn": "trishula.front_door.turn_command",
    "loop": "loop",
    "key": "key",
    "lease": "lease",
    "files": "files",
    "fallback": "fallback",
    "report": "report",
    "bench": "bench",
    "profile": "profile",
    "completion": "completion",
}


class _ReaderGone(Exception):
    """The reader of standard output, such as head, has enough. As an error of the system click would end with 1."""


class Commands(Group):
    """The group of all commands; each is imported when it is called or listed."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; ``--help`` prints here already."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            raise _ReaderGone from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own commands first, then those that joined."""
        joined = importlib.metadata.entry_points(group=ENTRY_POINTS).names
        return [*OWN_COMMANDS, *sorted(set(joined) - set(OWN_COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; ``None`` if there is none of that name."""
        module = OWN_COMMANDS.get(cmd_name)
        if module is not None:
            found = getattr(importlib.import_module(module if "." in module else f"{__package__}.{module}"), cmd_name)
        else:
            points = tuple(importlib.metadata.entry_points(group=ENTRY_POINTS, name=cmd_name))
            if not points:
                return None
            try:
                found = points[0].load()
            except ImportError as error:
                raise click.ClickException(
                    f"the command {cmd_name} can't be loaded ({error}); install what it needs: {INSTALL_NODE}"
                ) from error
        if not isinstance(found, click.Command):
            raise click.ClickException(f"the command {cmd_name} is no click command: its package is broken")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of the help; a command that can't be loaded is listed with the reason, not left out."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException as error:
                rows.append((name, error.message))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=90)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


EPILOG = """\b
Where the bus is and who you are:
  TRISHULA_URL      ws://HOST:PORT/ws, several nodes with commas between
  TRISHULA_TOKEN    your agent's token, from 'trishula token new NAME'
  TRISHULA_PROFILE  or both from a file: a path, or NAME for ~/.config/trishula/NAME.toml

\b
First steps on one machine:
  trishula node start --state ./state         in one terminal
  trishula token new dc --state ./state       in another one; then export the two variables
  trishula agents

\b
Exit codes (those below 64 tell of the request, those above of the surroundings):
  0 done                        7 accepted, and its outcome is not known yet
  1 failed                      8 a bench or a drill lost a message
  2 wrong command line          70 a bug in trishula
  3 refused for good            75 not now: try again later
  4 no token, or no right       78 configuration or state directory unusable
  5 nobody or nothing there     79 another process runs as this agent
  6 no node reached             130 interrupted (Ctrl-C)
"""


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"trishula, version {distribution.version()}")
        ctx.exit()


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.option("--url", metavar="URL,…", help="The nodes, in order of preference; before TRISHULA_URL.")
@click.option(
    "--profile",
    metavar="NAME|FILE",
    shell_complete=complete_profile,
    help="A profile file; before TRISHULA_PROFILE.",
)
@click.option("--utc", is_flag=True, help="Print and read instants in UTC, and not in this machine's time zone.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def cli(ctx: click.Context, url: str | None, profile: str | None, utc: bool) -> None:
    """Real-time coordination for teams of AI agents: durable messages with receipts, over a WAMP bus."""
    state = ctx.ensure_object(State)
    if utc:
        # The process's own time zone, so that no place that prints or reads an instant can forget it.
        os.environ["TZ"] = "UTC"
        time.tzset()
    state.url = url
    state.profile = profile
    home = home_directory()
    if profile is None and not os.environ.get("TRISHULA_PROFILE") and home is not None:
        state.profile, _ = read_chosen(home / ".config" / "trishula")
        state.is_chosen = state.profile is not None


def run(args: Sequence[str] | None = None, state: State | None = None) -> int:
    """Run one command line and return its exit code; everything that goes wrong is said on standard error."""
    state = State() if state is None else state
    # Before click reads anything: a usage error of a command that asked for JSON is JSON too.
    given = sys.argv[1:] if args is None else args
    state.json = "--json" in given
    for argument in given:
        # Python takes stray bytes for halves of characters, which would fail wherever they arrive.
        if argument != argument.encode(errors="replace").decode():
            return _say(state, f"the argument {argument!a} is not text in UTF-8", Exit.USAGE)
    if (fault := distribution.stranger()) is not None:
        return _say(state, fault, Exit.FAILED)
    if not state.json and (warning := distribution.beside_us()) is not None:
        click.echo(f"trishula: {warning}", err=True)
    try:
        outcome = cli.main(
            args=None if args is None else list(args), prog_name="trishula", standalone_mode=False, obj=state
        )
        # Here, and not at Python's end, where nobody could say anything any more.
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
        # --help and --version return their code, a command may return one as well.
        return int(outcome) if isinstance(outcome, int) else Exit.OK
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say(state, "interrupted", Exit.INTERRUPTED)
    except click.UsageError as error:
        if asks_for_help(error) and not state.json:
            click.echo(error.message, err=True)
            return Exit.USAGE
        return _say(state, sentence_of(error), Exit.USAGE)
    except click.ClickException as error:
        return _say(state, error.format_message(), error.exit_code)
    except TrishulaError as error:
        uri = error.remote_uri if isinstance(error, RemoteError) else error.uri
        return _say(state, _on_a_command_line(error, state), exit_for(error), uri=uri, error=error)
    except (_ReaderGone, BrokenPipeError):
        streams.end(sys.stdout)
        return Exit.OK
    except Exception as error:
        if isinstance(error, OSError) and streams.is_of_output(error):
            streams.end(sys.stdout)
            return _say(state, f"the output can't be written: {error.strerror}", Exit.FAILED)
        if os.environ.get("TRISHULA_DEBUG"):
            traceback.print_exc()
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _say(state, f"this is a bug in trishula: {text} (set TRISHULA_DEBUG=1 for the traceback)", Exit.BUG)


def _on_a_command_line(error: TrishulaError, state: State) -> str:
    """The sentence of an error; one on settings names options in the place of arguments of Python."""
    sentence = error.sentence
    if isinstance(error, SettingsInvalid) and state.is_chosen and "the argument profile names" in sentence:
        sentence = sentence.replace("the argument profile", "what was chosen by 'trishula profile use'")
        sentence += "; choose another one, or remove chosen-profile.json beside it to choose none"
    if isinstance(error, SettingsInvalid | TokenMissing):
        sentence = sentence.replace("give the argument token, set ", "set ")
        sentence = sentence.replace("the argument url", "--url").replace("the argument profile", "--profile")
    if isinstance(error, TokenMissing):
        sentence += "; or choose a profile that has one: trishula profile list"
    return sentence


def _say(state: State, sentence: str, code: int, *, uri: str | None = None, error: TrishulaError | None = None) -> int:
    if state.json:
        value: dict[str, object] = {
            "error": uri or Exit(code).name.lower() if code in list(Exit) else uri,
            "message": sentence,
        }
        if error is not None:
            value["temporary"] = error.temporary
            if error.retry_after_s is not None:
                value["retry_after_s"] = error.retry_after_s
            message_id = getattr(error, "message_id", None)
            if message_id is not None:
                value["id"] = message_id
        click.echo(as_json(value, sys.stderr), file=sys.stderr)
    else:
        # Our own sentences may have several lines; those of others, who could forge such lines, have one.
        lines = sentence.split("\n") if error is None else [sentence]
        click.echo(f"trishula: {chr(10).join(map(plain, lines))}", err=True)
    return code


def main() -> NoReturn:
    """The program ``trishula``."""
    streams.prepare()
    sys.exit(run())


if __name__ == "__main__":
    main()
