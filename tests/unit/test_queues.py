"""What waits for connections: the sums are right, and who goes is whoever has the most."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trishula_router.upstream.queues import FREE_BYTES, Queues

KIB = 1024


def test_an_agent_with_too_much_loses_the_connection_that_has_the_most() -> None:
    queues = Queues(agent_bytes=1000 * KIB, all_bytes=10_000 * KIB)
    for connection, size in (("a", 300), ("b", 600), ("c", 100)):
        queues.hold("dc", connection, size * KIB)
        assert queues.excess("dc") is None
    queues.hold("dc", "d", 200 * KIB)
    assert queues.excess("dc") == (
        "b",
        f"more than {1000 * KIB} bytes wait for all its agent's connections together (limits.agent_queue)",
    )
    queues.hold("dc", "b", 0)
    assert queues.excess("dc") is None


def test_when_all_have_too_much_the_agent_with_the_most_loses_one() -> None:
    queues = Queues(agent_bytes=1000 * KIB, all_bytes=1500 * KIB)
    queues.hold("dc", "a", 800 * KIB)
    queues.hold("agni", "b", 600 * KIB)
    queues.hold("rushabdev", "c", 200 * KIB)
    found = queues.excess("rushabdev")
    assert found is not None
    assert found[0] == "a"
    assert "limits.queues" in found[1]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 4), st.integers(0, 4 * FREE_BYTES)), max_size=60
    )
)
def test_the_sums_are_those_of_what_counts(steps: list[tuple[str, int, int]]) -> None:
    queues = Queues(agent_bytes=10 * FREE_BYTES, all_bytes=20 * FREE_BYTES)
    model: dict[tuple[str, int], int] = {}
    for agent, number, size in steps:
        queues.hold(agent, (agent, number), size)
        model[agent, number] = size if size > FREE_BYTES else 0
        sums = Counter[str]()
        for (one, _), counted in model.items():
            sums[one] += counted
        assert queues.total_bytes == sums.total()
        assert all(queues.of_agent(one) == sums[one] for one in "abc")
        found = queues.excess(agent)
        assert (found is None) == (sums[agent] <= 10 * FREE_BYTES and sums.total() <= 20 * FREE_BYTES)
        if found is not None:
            assert model[found[0]] > FREE_BYTES  # type: ignore[index]
    for agent, number in model:
        queues.hold(agent, (agent, number), 0)
    assert queues.total_bytes == 0
    assert not queues._of and not queues._sums
