"""Each option of each WAMP message, set by an agent at a real node: it does what the table in the docs says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.node import NodeProcess
from tests.support.option_probe import ATTACKER, CALLEE, LISTENER, Probing
from tests.support.option_table import ROWS, Row

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def probing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probing]:
    with NodeProcess(tmp_path_factory.mktemp("options") / "state") as node:
        for name in (ATTACKER, CALLEE, LISTENER):
            node.token(name)
        node.token("boss", operator=True)
        probing = Probing(node)
        yield probing
        probing.close()
        assert "Traceback" not in node.log()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.message} {row.option}")
def test_an_option_does_what_the_table_says(probing: Probing, row: Row) -> None:
    seen = probing.see(row.message, {row.key: row.value})
    if row.verdict in ("honoured", "ignored"):
        assert seen == row.seen
    else:
        assert seen.startswith(row.seen), seen
