"""The options of cells, each fault in its exact words; no password is ever shown. And what is told of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trishula.contract.units import show_duration
from trishula_router.commands.status_words import cell_lines
from trishula_router.doctor.status_checks import check_status
from trishula_router.health.cells_check import cells_check
from trishula_router.settings.cells import CellOptions
from trishula_router.settings.faults import ConfigError
from trishula_router.settings.options import parse_options

GOOD = {"name": "north", "redis": "redis://localhost", "key_file": "cells.key"}
URL_RULE = "redis://[USER@]HOST[:PORT][/DATABASE] or rediss://… (TLS), without a password"
KEY_RULE = "the path of the file with the cells' key, relative to the state directory, mode 0600"
SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"


def parse(cells: dict[str, Any], **extra: Any) -> CellOptions:
    return parse_options({"state": "s", "cells": cells, **extra}, base=Path("/srv"), path="extra").cells


def sentences(cells: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(cells)
    return [fault.sentence for fault in caught.value.faults]


def test_a_redis_that_sentinels_name_is_on_no_known_machine() -> None:
    more = {"redis": "redis://localhost", "sentinels": ["localhost:26379"], "sentinel_master": "m"}
    (sentence,) = sentences({**GOOD, **more})
    assert sentence.startswith('extra.cells.redis is "redis://localhost"; it must be rediss://… (TLS)')
    assert parse({**GOOD, "redis": "redis://localhost"}).redis == "redis://localhost"


def test_there_are_no_cells_unless_asked_for() -> None:
    assert parse({}) == CellOptions()
    assert not parse({}).name


def test_what_is_asked_for_is_read() -> None:
    more = {"sentinels": ["redis-1:26379", "[::1]:26380"], "sentinel_master": "mymaster", "late": "30s", "maxlen": 2000}
    options = parse({**GOOD, **more}, trusted_network="our own rack")
    assert options.sentinel_addresses == [("redis-1", 26379), ("::1", 26380)]
    assert (options.late_s, options.maxlen, options.address.port) == (30.0, 2000, 6379)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"name": "north"}, [f'extra.cells.redis is ""; it must be {URL_RULE}: cells.name needs it',
                             f'extra.cells.key_file is ""; it must be {KEY_RULE}: cells.name needs it']),
        ({"redis": "redis://localhost"},
         ['extra.cells.redis is "redis://localhost"; it must not be there without cells.name']),
        ({**GOOD, "name": "North"},
         ['extra.cells.name is "North"; it must be the name of the cell, a lower-case letter, then up to 62 of a-z, '
          "0-9 and _; empty for none"]),
        ({**GOOD, "redis": "http://x"}, [f'extra.cells.redis is "http://x"; it must be {URL_RULE}']),
        ({**GOOD, "redis": "redis://u:s3cret@localhost"},
         [f"extra.cells.redis: it must be {URL_RULE}: that goes into cells.redis_password ({SECRET_RULE})"]),
        ({**GOOD, "redis": "redis://redis.example.org"},
         ['extra.cells.redis is "redis://redis.example.org"; it must be rediss://… (TLS), or anybody on the way could '
          "read the messages and the password; or say why the network is to be trusted: extra, "
          '"trusted_network": "why it is to be trusted"']),
        ({**GOOD, "redis_ca": "ca.pem"},
         ['extra.cells.redis_ca is "ca.pem"; it must not be there without rediss://… in cells.redis']),
        ({**GOOD, "redis": "rediss://r", "sentinels": ["r"], "sentinel_master": "m"},
         ['extra.cells.sentinels[0] is "r"; it must be HOST:PORT, without TLS']),
        ({**GOOD, "redis": "rediss://r", "sentinel_master": "m"},
         ['extra.cells.sentinels is ""; cells.sentinels and cells.sentinel_master must both be there, or neither']),
        ({**GOOD, "late": "1s"}, ['extra.cells.late is "1s"; it must be from 5s to 30d']),
        ({**GOOD, "colour": 1},
         ["extra.cells.colour is 1; it is an unknown key; the known keys are name, redis, redis_password, redis_ca, "
          "key_file, sentinels, sentinel_master, maxlen, late"]),
    ],
)  # fmt: skip
def test_faults_are_told(cells: dict[str, Any], said: list[str]) -> None:
    assert sentences(cells) == said


WELL = {
    "cell": "north",
    "where": "redis:6379",
    "leads": True,
    "waiting_messages": 0,
    "waiting_s": 0.0,
    "out_messages": 3,
    "resent": 0,
    "accepted": 5,
    "refused_entries": 0,
    "errors": 0,
    "canary_s": 2.0,
    "fault": None,
}


def test_the_check_is_degraded_where_messages_wait_or_the_reader_is_dead() -> None:
    assert not cells_check(WELL, 60.0).degraded
    waits = cells_check({**WELL, "waiting_messages": 7, "waiting_s": 61.0, "fault": "Redis can't be reached: x"}, 60.0)
    assert (waits.ok, waits.degraded) == (True, True)
    assert waits.reason == (
        "7 messages are not known to have reached their cells, the first of them for "
        f"{show_duration(61.0)}: Redis can't be reached: x"
    )
    deaf = cells_check({**WELL, "canary_s": 90.0}, 60.0)
    assert deaf.degraded
    assert deaf.reason is not None
    said = f"what the cell north puts on its own stream has not come back for {show_duration(90.0)}"
    assert deaf.reason.startswith(said)
    # The node that doesn't read has no canary.
    assert not cells_check({**WELL, "leads": False, "canary_s": None}, 60.0).degraded


def test_status_says_how_it_is_joined() -> None:
    assert cell_lines({}) == cell_lines({"cells": None}) == []
    assert cell_lines({"cells": WELL}) == [
        "cell north, joined by redis:6379: 3 messages are out at other cells, 0 wait to get there"
    ]
    late = {**WELL, "leads": False, "waiting_messages": 2, "waiting_s": 5.0, "fault": "Redis did not answer within 5 s"}
    assert cell_lines({"cells": late}) == [
        "cell north, joined by redis:6379, its linked node forwards and reads: 3 messages are out at other cells, "
        f"2 wait to get there, the first for {show_duration(5.0)}; Redis did not answer within 5 s"
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "the cell north is joined by redis:6379; 0 messages wait for their cells"),
        (
            {"fault": "Redis did not answer within 5 s"},
            "0 messages wait for their cells: Redis did not answer within 5 s",
        ),
        ({"canary_s": 300.0}, "what it puts on its own stream at redis:6379 has not come back for 5.0 min"),
        ({"refused_entries": 4}, "4 entries or homes at redis:6379 have no good seal"),
    ],
)
def test_the_doctor_says_what_is_wrong(more: dict[str, Any], words: str) -> None:
    found = check_status({"node": "north", "cells": {**WELL, **more}})
    assert [one.sentence for one in found if one.check == "node north: cells"] == [words]
