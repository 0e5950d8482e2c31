"""The wire contract at a node with proxy workers: all of ``test_wire_contract.py``, over them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_wire_contract import *  # noqa: F403
from tests.support.node import NodeProcess
from tests.support.proxied import proxied_config

pytestmark = pytest.mark.node


@pytest.fixture(scope="module", autouse=True)  # type: ignore[no-redef]
def real_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("proxied-wire")
    with NodeProcess(directory / "state", config=proxied_config(directory / "node.json", 2)) as node:
        for name in ("agni", "dc", "rushabdev"):
            node.token(name, serve=["deploy", "host"] if name == "agni" else [])
        node.token("boss", operator=True)
        yield node


@pytest.fixture  # type: ignore[no-redef]
def serializer() -> str:
    return "msgpack"


@pytest.fixture  # type: ignore[no-redef]
def node(real_node: NodeProcess) -> NodeProcess:
    return real_node
