"""Half of a drill's clients join with a key, which is registered at each node, and sign what they send."""

from __future__ import annotations

from pathlib import Path

import pytest

from trishula.files.signature import FileKey
from trishula_drill.linked import make_keys, make_tokens
from trishula_drill.worker import Task, Worker
from trishula_router.agents.file import read_agents


def test_a_client_joins_with_the_key_that_each_node_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "somebody.else")
    states = [tmp_path / "agni", tmp_path / "rushabdev"]
    tokens = make_tokens(states, ["drill_a"], "drill_operator")
    keys = make_keys(states, ["drill_b"], tmp_path)
    assert (set(tokens), set(keys)) == ({"drill_a", "drill_operator"}, {"drill_b"})
    task = Task("agent", "", "", "drill_b", "1", str(tmp_path), "", key_file=str(keys["drill_b"]))
    worker = Worker(task)
    try:
        settings = worker.settings()
    finally:
        worker.history.close()
    assert settings.key is not None
    assert (settings.agent, settings.token, settings.keys.key_file) == ("drill_b", "", keys["drill_b"])
    for state in states:
        agents = read_agents(state / "agents.json")
        assert [one.ed25519 for one in agents["drill_b"].tokens] == [settings.key.public]
        assert [name for name, one in agents.items() if one.operator] == ["drill_operator"]
    # Of that its files are signed, in the drill with two roads.
    assert FileKey.from_token(settings.secret).public
