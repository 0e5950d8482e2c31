"""What holds for every test: it leaves no logged error, no process, no timer and no file behind.

pytest, unlike trial, doesn't fail on an error that was only logged, and nothing would notice a node that outlives its
test. The fixtures here do. A test that provokes a logged error takes ``logged_errors`` and flushes it by its type.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

#: Every child inherits it, so that a process whose parent was killed is found as well.
_MARK = "TEST_RUN_OF_TRISHULA"
_RUN = uuid.uuid4().hex

# The machine of CI is slow and shared: what is tested is what is right, never how fast.
settings.register_profile("trishula", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trishula")


#: The quick ones first: who broke something learns it within seconds. Also, nothing that a real connection left on the
#: reactor can come up in a unit test.
_ORDER = ("unit", "contract", "property", "simulation", "checker", "integration", "operating", "partition")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder; within one, files and tests stay in their order."""
    items.sort(key=lambda item: next((place for place, name in enumerate(_ORDER) if name in item.path.parts), 0))


#: Crossbar imports py_ecc, which sets 100,000 for the whole process: deep nesting then overflows the C stack.
_RECURSION_LIMIT = sys.getrecursionlimit()


@pytest.fixture(autouse=True)
def _recursion_limit() -> None:
    """What a module imports must not change what the tests of another one find."""
    sys.setrecursionlimit(_RECURSION_LIMIT)


class LoggedErrors:
    """The failures that Twisted logged during a test."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def observe(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            self.failures.append(failure)

    def flush(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out, and return, the failures of these kinds; of any kind, if none is named."""
        gc.collect()
        found = [failure for failure in self.failures if not kinds or isinstance(failure.value, kinds)]
        self.failures = [failure for failure in self.failures if failure not in found]
        return found


@pytest.fixture(autouse=True, scope="module")
def _collecting_stays_cheap() -> Iterator[None]:
    """Let the collector look at what a module of tests makes, and not at all that was there before.

    Each test ends with a full round of it. Behind some thousand tests a round over everything takes a second, which is
    more than most of the tests take.
    """
    gc.freeze()
    yield
    # What the module's own fixtures left behind; it would be frozen with the rest.
    gc.collect()


def _is_unit(request: pytest.FixtureRequest) -> bool:
    return "unit" in Path(str(request.path)).parts


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[LoggedErrors]:
    """Fail the test if Twisted logged an error that the test didn't flush."""
    errors = LoggedErrors()
    publisher: Any = globalLogPublisher  # mypy can't read the interfaces of zope
    publisher.addObserver(errors.observe)
    yield errors
    # A Deferred logs its unhandled error when it is collected.
    gc.collect()
    publisher.removeObserver(errors.observe)
    texts = [failure.getTraceback() for failure in errors.failures]
    assert not texts, "logged and not flushed:\n" + "\n".join(texts)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail the test if a child process that it started still runs."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    yield
    until = time.monotonic() + 3.0
    while left := [child for child in me.children() if child.pid not in before and _runs(child)]:
        if time.monotonic() > until:
            described = [_describe(child) for child in left]
            for child in left:
                child.kill()
            pytest.fail("the test left processes behind: " + "; ".join(described))
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _nothing_is_written_beside(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run each test in an empty directory of its own, and fail it if something was written there unasked."""
    directory = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(directory)
    yield
    written = sorted(path.name for path in directory.iterdir())
    assert not written, f"written to the working directory: {', '.join(written)}"


@pytest.fixture(autouse=True, scope="module")
def _no_settings_leak_into_what_tests_share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module's own fixtures come before those of its tests; what they start must not use this user's files."""
    with pytest.MonkeyPatch.context() as patch:
        _without_settings(patch, tmp_path_factory)
        yield


@pytest.fixture(autouse=True)
def _no_settings_leak_in(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A developer's own bus must not be what a test talks to."""
    _without_settings(monkeypatch, tmp_path_factory)


def _without_settings(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("TRISHULA_")]:
        patch.delenv(name)
    # An agent's file outlives its process, and must not outlive the test. It is made only by tests that run agents.
    patch.setenv("TRISHULA_AGENT_STATE", str(tmp_path_factory.getbasetemp() / "agents" / uuid.uuid4().hex))
    # Profiles are read from ~/.config/trishula.
    patch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "no-home"))
    # Matplotlib keeps its list of fonts there.
    patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_written_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run if an agent, the demo or the bench kept something where a user's own agents keep theirs."""
    yield
    home = tmp_path_factory.getbasetemp() / "no-home"
    written = sorted(str(path.relative_to(home)) for path in home.rglob("*")) if home.exists() else []
    assert not written, f"written to the home directory: {', '.join(written)}"


@pytest.fixture(autouse=True)
def _unit_tests_leave_the_reactor_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a unit test that puts a timer on the real reactor: it gets its time from a Clock."""
    if not _is_unit(request):
        yield
        return
    # Not at the top: which reactor it is, pytest-twisted decides first.
    from twisted.internet import reactor as installed

    reactor: Any = installed  # as above
    before = set(map(id, reactor.getDelayedCalls()))
    yield
    left = [call for call in reactor.getDelayedCalls() if id(call) not in before]
    for call in left:
        call.cancel()
    assert not left, f"left on the reactor: {left}"


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that only the test moves; no timer may be left on it at the end."""
    clock = Clock()
    yield clock
    timers: list[Any] = list(clock.getDelayedCalls())
    left = [timer for timer in timers if timer.active()]
    assert not left, f"left on the clock: {left}"


@pytest.fixture(scope="session", autouse=True)
def _no_orphan_is_left() -> Iterator[None]:
    """Fail the run if a process survived whose parent a test killed."""
    os.environ[_MARK] = _RUN
    yield
    until = time.monotonic() + 5.0
    while left := [process for process in psutil.process_iter() if _is_ours(process)]:
        if time.monotonic() > until:
            described = [_describe(process) for process in left]
            for process in left:
                process.kill()
            pytest.fail("the run left processes behind: " + "; ".join(described))
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(_MARK) == _RUN and _runs(process)
    except (psutil.Error, OSError):
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
