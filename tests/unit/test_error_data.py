"""What a procedure's error says beside its sentence: on both roads, to callers old and new, and what can't travel."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.python.failure import Failure

from trishula.consumer.replies import _described
from trishula.contract.limits import ERROR_DATA_BYTES
from trishula.errors import ArgumentInvalid, CallFailed, RemoteError, TrishulaError
from trishula.messaging.pending_calls import error_of
from trishula.session.wamp_errors import error_of_answer, error_to_wire

DATA = {"free_bytes": 0, "disks": ["/", "/srv"]}


ERRORS = [
    CallFailed("no room", data=DATA),
    ArgumentInvalid("no room", data=DATA),
    RemoteError("no room", remote_uri="org.example.disk_full", data=DATA),
]


def by_message(error: BaseException) -> TrishulaError:
    return error_of(_described(error), "agni", "deploy")


def by_live_call(error: BaseException) -> TrishulaError:
    with pytest.raises(ApplicationError) as raised:
        error_to_wire(Failure(error))  # type: ignore[no-untyped-call]
    return error_of_answer("trishula.agent.agni.deploy", raised.value)


ROADS = pytest.mark.parametrize("road", [by_message, by_live_call])


@ROADS
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_caller_has_what_was_raised(road: Any, error: TrishulaError) -> None:
    got = road(error)
    assert got.data == DATA
    assert got.sentence == "no room"
    # What is an agent's own has a name, and no class here.
    known = type(error) if type(error) in (CallFailed, ArgumentInvalid) else RemoteError
    assert type(got) is known
    if isinstance(got, RemoteError):
        assert got.remote_uri == "org.example.disk_full"


@ROADS
@pytest.mark.parametrize("error", [CallFailed("no"), RemoteError("no", remote_uri="a.b"), ValueError("no"), KeyError()])
def test_an_error_without_data_looks_as_before(road: Any, error: BaseException) -> None:
    assert road(error).data is None
    assert _described(error).keys() == {"error", "message"}


@ROADS
def test_dates_and_the_like_are_spelled_out(road: Any) -> None:
    assert road(CallFailed("no", data={"at": datetime(2026, 2, 3, tzinfo=UTC)})).data == {
        "at": "2026-02-03T00:00:00+00:00"
    }


@ROADS
@pytest.mark.parametrize("data", [object(), {1: 2}, 2**60, "x" * ERROR_DATA_BYTES])
def test_data_that_cannot_travel_is_left_out_and_said(road: Any, data: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        got = road(CallFailed("no room", data=data))
    assert (type(got), got.sentence, got.data) == (CallFailed, "no room", None)
    assert "The caller gets the error without its data: the data of CallFailed" in caplog.text


def test_somebody_elses_exception_gives_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    class Theirs(Exception):
        data = "what it was made from"

    assert by_message(Theirs("no")).data is None
    assert by_live_call(Theirs("no")).data is None
    assert caplog.text == ""
