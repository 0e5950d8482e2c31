"""The proxy of the drills does to a connection what it says, and loses nothing of what it lets pass."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from trishula_drill.faults import ALL, DRILLS, NETWORK, Cast, Kind, schedule
from trishula_drill.proxy import Network, Proxy, Toxic, free_port

CAST = Cast(("dc",), ("agni", "script"))


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._echo, args=(connection,)).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5.0)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def proxy(network: Network) -> Iterator[Proxy]:
    echo = Echo()
    yield network.proxy(echo.port, random.Random(1))
    echo.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Send, and read back as much, or until the connection ends."""
    connection.sendall(data)
    received = b""
    while len(received) < len(data) and (more := connection.recv(65536)):
        received += more
    return received


def is_reset(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b"" and False
    except ConnectionResetError:
        return True


DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("toxic", [None, Toxic(Kind.LATENCY, 0.02), Toxic(Kind.SLICE, 97)])
def test_what_passes_is_whole(network: Network, proxy: Proxy, toxic: Toxic | None) -> None:
    network.spoil(proxy, toxic)
    with connect(proxy) as connection:
        assert exchange(connection, DATA) == DATA


def test_latency_takes_time(network: Network, proxy: Proxy) -> None:
    network.spoil(proxy, Toxic(Kind.LATENCY, 0.2))
    with connect(proxy) as connection:
        began_s = time.monotonic()
        assert exchange(connection, b"ping") == b"ping"
        # Both ways, each at least half of it.
        assert time.monotonic() - began_s >= 0.2


def test_little_bandwidth_takes_time_in_each_direction(network: Network, proxy: Proxy) -> None:
    network.spoil(proxy, Toxic(Kind.BANDWIDTH, 50_000))
    with connect(proxy) as connection:
        began_s = time.monotonic()
        assert exchange(connection, DATA) == DATA
        # There, and back at the same time.
        assert time.monotonic() - began_s >= 0.9 * len(DATA) / 50_000
        network.spoil(proxy, None)
        assert exchange(connection, DATA) == DATA


def test_a_reset_ends_connections_and_lets_new_ones_in(network: Network, proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"
        network.spoil(proxy, Toxic(Kind.RESET))
        assert is_reset(connection)
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"


def test_quick_losses_end_each_connection_and_let_the_next_one_in(network: Network, proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"
        network.spoil(proxy, Toxic(Kind.QUICK_LOSS, 0.1))
        assert is_reset(connection)
    for _ in range(3):
        with connect(proxy) as connection:
            # It comes to its end by itself.
            assert is_reset(connection)
    network.spoil(proxy, None)
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"


def test_down_refuses(network: Network, proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"
        network.spoil(proxy, Toxic(Kind.DOWN))
        assert is_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    network.spoil(proxy, None)
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"


def test_a_black_hole_holds_up_and_loses_nothing(network: Network, proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"
        network.spoil(proxy, Toxic(Kind.BLACK_HOLE))
        connection.sendall(DATA)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5.0)
        network.spoil(proxy, None)
        received = b""
        while len(received) < len(DATA):
            received += connection.recv(65536)
        assert received == DATA


def test_a_slow_close_is_told_late(network: Network, proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert exchange(connection, b"ping") == b"ping"
        network.spoil(proxy, Toxic(Kind.SLOW_CLOSE))
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5.0)
        network.spoil(proxy, None)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_limited_data_cuts_in_the_midst(network: Network, proxy: Proxy) -> None:
    network.spoil(proxy, Toxic(Kind.LIMIT, 1000))
    with connect(proxy) as connection:
        received = b""
        with contextlib.suppress(ConnectionResetError):
            received = exchange(connection, DATA)
        assert len(received) < len(DATA)


def test_without_a_node_the_door_is_closed(network: Network) -> None:
    proxy = network.proxy(free_port(), random.Random(1))
    # The reset may come before the connect is seen to have succeeded.
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)


# -- the schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drill", DRILLS)
def test_a_seed_is_a_schedule(drill: str) -> None:
    first = [schedule(drill, number, 7, CAST) for number in range(50)]
    assert first == [schedule(drill, number, 7, CAST) for number in range(50)]
    assert first != [schedule(drill, number, 8, CAST) for number in range(50)]
    assert all(faults for faults in first)
    for faults in first:
        assert list(faults) == sorted(faults, key=lambda fault: fault.at_s)


def test_the_schedule_is_the_same_everywhere() -> None:
    # Would tell of a change that makes seeds of earlier reports mean something else.
    (fault,) = schedule("freeze", 3, 2026, CAST)
    assert (fault.kind, fault.target) == (Kind.FREEZE_CLIENT, "dc")
    assert (round(fault.at_s, 6), round(fault.for_s, 6)) == (0.431635, 3.415591)


def test_each_kind_has_its_turn() -> None:
    kinds = {fault.kind for name in DRILLS for number in range(50) for fault in schedule(name, number, 1, CAST)}
    # The Redis between cells has a drill of its own: test_cells_drill.
    assert kinds == {kind for kind in Kind if not kind.name.endswith("_REDIS")}
    assert {fault.kind for number in range(len(NETWORK)) for fault in schedule("network", number, 1, CAST)} == set(
        NETWORK
    )
    assert ALL not in DRILLS
