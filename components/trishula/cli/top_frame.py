"""A frame of ``trishula top``: the facts of a look as lines that fit a terminal of any size.

First stand the node and its sums, then four sections, last the keys. A section is a line of headers and a row for each
agent, pair, mailbox or link. Where the terminal is too narrow, a section leaves out columns, the least needed first.
Where the terminal is too low, sections share the lines, and each says how many rows it left out. A wide terminal has
two columns of sections. Nothing is ever wider or higher than the terminal: whoever watches would see the frame roll.

Names, states and reasons are others' text, and pass through :func:`~trishula.cli.words.plain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trishula.cli.words import NOTHING, local_time, plain
from trishula.contract.units import show_duration

__all__ = ["Notice", "frame"]

Facts = Mapping[str, Any]

_GAP = "  "
#: From this width on there is room for two columns of sections.
_TWO_COLUMNS = 130
#: So many lines has a section at least: its headers and a row.
_LEAST_LINES = 2
#: A first column keeps so many cells, whatever else has to go.
_LEAST_NAME = 8
#: A clock that is off by more confuses limits of time.
_SKEW_TO_TELL_MS = 2000
_COLOURS = {"online": "green", "busy": "yellow", "stale": "red", "up": "green", "down": "red"}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a frame says besides its facts.

    Attributes:
        fault: what is wrong, because of which the facts are old, a few words; ``None`` if they are not.
        reason: more of it, one sentence.
        age_s: how old the facts are.
        is_paused: whether the frame stands still because somebody asked for it.
        keys: which keys do something; empty if none does.
    """

    fault: str | None = None
    reason: str = ""
    age_s: float = 0.0
    is_paused: bool = False
    keys: str = ""


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    #: The column with the highest number goes first where there is no room; that with 0 never goes.
    goes: int = 0
    is_number: bool = False


@dataclass
class _Section:
    columns: Sequence[_Column]
    rows: list[Sequence[Text]] = field(default_factory=list)
    #: Stands where there are no rows.
    empty: str = ""

    @property
    def wanted(self) -> int:
        return 1 + max(1, len(self.rows))


def frame(
    facts: Facts, width: int | None = None, height: int | None = None, notice: Notice | None = None, cut: str = "…"
) -> list[Text]:
    """The lines of a frame.

    Args:
        facts: see :mod:`trishula.watching.facts`.
        width: of the terminal in cells; without one nothing is left out or cut.
        height: of the terminal in lines; without one every row is there.
        notice: what else there is to say.
        cut: stands where a text was cut; one cell.
    """
    notice = notice or Notice()
    head = _head(facts, notice, width, cut)
    foot = [Text(f"{'paused' + _GAP if notice.is_paused else ''}{notice.keys}", style="dim")] if notice.keys else []
    room = None if height is None else max(0, height - len(head) - len(foot))
    agents, flow, mailboxes, links = _agents(facts), _flow(facts), _mailboxes(facts), _links(facts)
    if width is not None and width >= _TWO_COLUMNS:
        half = (width - len(_GAP)) // 2
        left = _stacked([agents, links], half, room, cut)
        right = _stacked([flow, mailboxes], half, room, cut)
        body = _beside(left, right, half)
    else:
        body = _stacked([agents, flow, mailboxes, links], width, room, cut)
    if height is not None and foot:
        # The keys stand in the last line, as people look for them there.
        body += [Text() for _ in range((room or 0) - len(body))]
    lines = [*head, *body, *foot]
    return [_cut(line, width, cut) for line in (lines if height is None else lines[:height])]


def _head(facts: Facts, notice: Notice, width: int | None, cut: str) -> list[Text]:
    agents, latency = facts["agents"], facts["latency"]
    present = sum(one["presence"] in ("online", "busy") for one in agents)
    told: list[Text | str] = [
        Text(f"{plain(facts['node'])} {plain(facts['version'])}", style="bold"),
        f"up {show_duration(facts['up_ms'] / 1000)}",
        f"{present} of {len(agents)} agents there",
        f"{facts['pending']} waiting",
        f"{facts['in_flight']} handled",
        f"{_rate(sum(pair['lately_per_s'] for pair in facts['flow']))} msg/s",
    ]
    if latency["messages"]:
        told.append(f"done within {_ms(latency['p50_ms'])} (p50), {_ms(latency['p99_ms'])} (p99)")
        told.append(f"{latency['messages']} measured in the last minute")
    else:
        told.append("nothing was done in the last minute")
    if facts["passed_over_records"]:
        told.append(f"{facts['passed_over_records']} records passed over")
    if facts["at"] and not notice.keys:
        # Of a frame that stands alone one wants to know when it was.
        told.append(local_time(facts["at"], "seconds"))
    lines = []
    if notice.fault is not None:
        age = show_duration(notice.age_s)
        sentence = f"{notice.fault}: what you see is {age} old, and it is tried again ({plain(notice.reason)})"
        lines.append(Text(sentence, style="bold red"))
    if facts["fault"]:
        lines.append(Text(plain(facts["fault"]), style="red"))
    return [_cut(line, width, cut) for line in [*lines, *_packed(told, width)]]


def _packed(phrases: Sequence[Text | str], width: int | None) -> list[Text]:
    """Phrases one behind the other, and in the next line where there is no room."""
    lines: list[Text] = []
    for phrase in phrases:
        text = phrase if isinstance(phrase, Text) else Text(phrase)
        if lines and (width is None or lines[-1].cell_len + len(_GAP) + text.cell_len <= width):
            lines[-1] = Text(_GAP).join([lines[-1], text])
        else:
            lines.append(text)
    return lines


def _agents(facts: Facts) -> _Section:
    section = _Section(
        [
            _Column("AGENT"), _Column("PRESENCE"), _Column("NODE", 3), _Column("CLOCK", 4, True),
            _Column("WAITING", 1, True), _Column("BUSY", 2, True), _Column("DOING", 5),
        ],
        empty="no agents are registered",
    )  # fmt: skip
    for one in facts["agents"]:
        skew = one["clock_skew_ms"]
        busy_ms = one["busy_for_ms"]
        section.rows.append(
            (
                Text(plain(one["agent"])),
                Text(plain(one["presence"]), style=_COLOURS.get(one["presence"], "dim")),
                Text(plain(one["node"] or NOTHING)),
                Text(_ahead(skew), style="red" if abs(skew or 0) > _SKEW_TO_TELL_MS else ""),
                Text(NOTHING if one["waiting"] is None else str(one["waiting"])),
                Text(NOTHING if busy_ms is None else show_duration(busy_ms / 1000)),
                Text(plain(one["doing"] or "")),
            )
        )
    return section


def _flow(facts: Facts) -> _Section:
    section = _Section(
        [_Column("FROM"), _Column("TO"), _Column("MSG/S", 0, True), _Column("LAST MINUTE", 1, True)],
        empty="no message in the last minute",
    )
    for pair in facts["flow"]:
        rates = (Text(_rate(pair["lately_per_s"])), Text(_rate(pair["per_s"])))
        section.rows.append((Text(plain(pair["from"])), Text(plain(pair["to"])), *rates))
    return section


def _mailboxes(facts: Facts) -> _Section:
    boxes = facts["mailboxes"]
    section = _Section(
        [
            _Column("MAILBOX"), _Column("WAITING", 0, True), _Column("HANDLED", 1, True), _Column("OLDEST", 2, True),
            _Column("TAKEN BY", 3),
        ],
        empty="every mailbox is empty" if boxes is not None else "this node doesn't tell its mailboxes: update it",
    )  # fmt: skip
    for box in boxes or ():
        oldest_ms = box["oldest_ms"]
        section.rows.append(
            (
                Text(plain(box["address"])),
                Text(str(box["pending"])),
                Text(str(box["in_flight"])),
                Text(NOTHING if oldest_ms is None else show_duration(oldest_ms / 1000)),
                Text(", ".join(map(plain, box["takers"]))) if box["takers"] else Text("nobody", style="red"),
            )
        )
    return section


def _links(facts: Facts) -> _Section:
    section = _Section(
        [
            _Column("LINK TO"), _Column("STATE"), _Column("IT LACKS", 1, True), _Column("WE LACK", 2, True),
            _Column("ITS CLOCK", 4, True), _Column("FAULT", 3),
        ],
        empty="this node has no peer",
    )  # fmt: skip
    for peer in facts["peers"]:
        section.rows.append(
            (
                Text(plain(peer["node"])),
                Text(plain(peer["state"]), style=_COLOURS.get(peer["state"], "dim")),
                Text(str(peer["lag_records"] or 0)),
                Text(str(peer["to_copy_records"] or 0)),
                Text(_ahead(peer["clock_ahead_ms"])),
                Text(plain(peer["fault"] or ""), style="red"),
            )
        )
    return section


# -- lines that fit ----------------------------------------------------------------------------------------------------


def _stacked(sections: Sequence[_Section], width: int | None, room: int | None, cut: str) -> list[Text]:
    """Sections below each other in so many lines."""
    if room is None:
        shares = [section.wanted for section in sections]
        blank = True
    else:
        # Of a terminal so low that not even a row of each fits, the first sections are the needed ones.
        sections = sections[: room // _LEAST_LINES]
        blank = room >= sum(section.wanted for section in sections) + len(sections) - 1
        shares = _shared([section.wanted for section in sections], room)
    lines: list[Text] = []
    for section, share in zip(sections, shares, strict=True):
        if lines and blank:
            lines.append(Text())
        lines += _lines(section, share, width, cut)
    return lines


def _shared(wanted: Sequence[int], room: int) -> list[int]:
    """How many lines each gets: what it wants, if all fit; else nobody gets more while another one lacks more."""
    shares = [min(_LEAST_LINES, one) for one in wanted]
    left = room - sum(shares)
    while left > 0 and (lacking := [index for index, one in enumerate(wanted) if shares[index] < one]):
        least = min(lacking, key=lambda index: (shares[index], index))
        shares[least] += 1
        left -= 1
    return shares


def _lines(section: _Section, share: int, width: int | None, cut: str) -> list[Text]:
    rows = section.rows
    left_out = 0
    if len(rows) > share - 1:
        # The line that says so takes a row's place; of a single row there is nothing to take.
        shown = max(1, share - 2)
        left_out, rows = len(rows) - shown, rows[:shown]
    columns = list(range(len(section.columns)))
    widths = {index: _width(section, rows, index) for index in columns}
    while width is not None and _total(widths, columns) > width:
        last = max(columns, key=lambda index: section.columns[index].goes)
        if section.columns[last].goes == 0:
            # Those that stay are cut, the widest first.
            widest = max(columns, key=lambda index: widths[index])
            if widths[widest] <= _LEAST_NAME:
                break
            widths[widest] -= 1
        elif (
            last == columns[-1]
            and not section.columns[last].is_number
            and (width - _total(widths, columns[:-1]) - len(_GAP) >= _LEAST_NAME)
        ):
            # A last column of words is cut rather than left out.
            widths[last] = width - _total(widths, columns[:-1]) - len(_GAP)
        else:
            columns.remove(last)
    headers = [Text(section.columns[index].header, style="bold cyan") for index in columns]
    more = f"{_GAP}({left_out} more)" if left_out and share <= _LEAST_LINES else ""
    lines = [_row(section, columns, widths, headers, cut)]
    if more:
        # In the headers' line, because there is no other.
        lines[0] = _cut(lines[0], None if width is None else max(0, width - cell_len(more)), cut)
        lines[0].append(more, style="dim")
    lines += [_row(section, columns, widths, [row[index] for index in columns], cut) for row in rows]
    if not rows:
        lines.append(Text(section.empty, style="dim"))
    if left_out and not more:
        lines.append(Text(f"and {left_out} more", style="dim"))
    return [_cut(line, width, cut) for line in lines]


def _width(section: _Section, rows: Sequence[Sequence[Text]], index: int) -> int:
    return max(cell_len(section.columns[index].header), *(row[index].cell_len for row in rows), 0)


def _total(widths: Mapping[int, int], columns: Sequence[int]) -> int:
    return sum(widths[index] for index in columns) + len(_GAP) * max(0, len(columns) - 1)


def _row(section: _Section, columns: Sequence[int], widths: Mapping[int, int], cells: Sequence[Text], cut: str) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for number, (index, whole) in enumerate(zip(columns, cells, strict=True)):
        cell = _cut(whole, widths[index], cut)
        padding = " " * max(0, widths[index] - cell.cell_len)
        if number:
            line.append(_GAP)
        if section.columns[index].is_number:
            line.append(padding)
        line.append_text(cell)
        if not section.columns[index].is_number and number < len(columns) - 1:
            line.append(padding)
    line.rstrip()
    return line


def _beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number].copy() if number < len(left) else Text(no_wrap=True, overflow="ignore")
        if number < len(right):
            line.append(" " * (width - line.cell_len) + _GAP)
            line.append_text(right[number])
        lines.append(line)
    return lines


def _cut(text: Text, width: int | None, mark: str) -> Text:
    """A text of at most so many cells; one that was cut ends with the mark."""
    if width is None or text.cell_len <= width:
        return text
    cut = text.copy()
    cut.truncate(max(0, width - cell_len(mark)), overflow="crop")
    cut.append(mark if width >= cell_len(mark) else "")
    return cut


# -- words -------------------------------------------------------------------------------------------------------------


def _rate(per_s: float) -> str:
    return f"{per_s:.2f}" if per_s < 1 else f"{per_s:.1f}" if per_s < 100 else f"{per_s:.0f}"


def _ms(span_ms: int) -> str:
    """The journal's instants are whole milliseconds: what took less is none."""
    return "< 1 ms" if span_ms < 1 else show_duration(span_ms / 1000) if span_ms >= 1000 else f"{span_ms} ms"


def _ahead(ahead_ms: int | None) -> str:
    return NOTHING if ahead_ms is None else f"{ahead_ms:+} ms"
