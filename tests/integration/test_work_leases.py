"""Work leases on a real node: agents, scripts, a model's tools, the command line, and git's hook."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.loops import in_own_loop
from tests.support.node import ROOT, NodeProcess, environment
from trishula import Agent, AsyncClient, LeaseTaken, LeaseUnknown
from trishula.contract import uris
from trishula.front_door.member import Member
from trishula.front_door.tools import Tools
from trishula.settings import load

pytestmark = pytest.mark.node

TRISHULA = [sys.executable, "-m", "trishula.cli.main"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("leases") / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        node.token("ops", operator=True)
        yield node


def run(node: NodeProcess, agent: str, *args: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    around = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[agent], PYTHONPATH=os.pathsep.join(sys.path))
    return subprocess.run([*args], cwd=at or ROOT, env=around, capture_output=True, text=True, check=False)


def lease(node: NodeProcess, agent: str, *args: str) -> subprocess.CompletedProcess[str]:
    return run(node, agent, *TRISHULA, "lease", *args)


def ask(node: NodeProcess, agent: str, uri: str, *args: Any) -> None:
    async def main() -> None:
        async with AsyncClient(url=node.url, token=node.tokens[agent]) as bus:
            await bus.request(uri, *args)

    in_own_loop(main)


def agent(node: NodeProcess, name: str) -> Agent:
    return Agent(name, url=node.url, token=node.tokens[name], state=False)


def test_agents_scripts_and_a_model_take_turns(node: NodeProcess) -> None:
    async def main() -> None:
        async with agent(node, "agni") as agni, AsyncClient(url=node.url, token=node.tokens["dc"]) as script:
            async with agni.lease("path:src/**", note="renames", timeout=5) as mine:
                assert mine.fence > 0 and not mine.provisional
                with pytest.raises(LeaseTaken, match=r"path:src/a.py is not to be had: agni has path:src/\*\*"):
                    await script.lease("path:src/a.py", timeout=0.2).claim()
                waiting = asyncio.ensure_future(script.lease("path:src/a.py").claim())
                await asyncio.sleep(0.2)
                assert not waiting.done()
            theirs = await asyncio.wait_for(waiting, 10)
            assert theirs.fence > mine.fence
            # Who stops waiting gets nothing later.
            second = asyncio.ensure_future(agni.lease("path:src").claim())
            await asyncio.sleep(0.2)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            await theirs.release()
            assert await agni.request(uris.LEASE_LIST) == []
            with pytest.raises(LeaseUnknown):
                await theirs.renew()

    in_own_loop(main)


def test_handlers_and_scripts_of_an_agent_leave_each_other_what_they_share(node: NodeProcess) -> None:
    async def main() -> None:
        async with agent(node, "agni") as agni:
            first, second = agni.lease("path:src"), agni.lease("path:src")
            async with second:
                async with first:
                    assert first.id == second.id
                await second.renew()
                # A script's command, too; and no claim of it lowers the ttl.
                assert (await asyncio.to_thread(lease, node, "agni", "run", "path:src", "--", "true")).returncode == 0
                await second.renew()
                (told,) = await agni.request(uris.LEASE_LIST)
                assert told["ttl_s"] == 120.0
            assert await agni.request(uris.LEASE_LIST) == []
            kept = await asyncio.to_thread(lease, node, "agni", "claim", "path:src", "--wait", "1")
            assert kept.returncode == 0, kept.stderr
            async with agni.lease("path:src"):
                pass
            assert len(await agni.request(uris.LEASE_LIST)) == 1
            await agni.request(uris.LEASE_RELEASE, "path:src")

    in_own_loop(main)


def test_who_stops_waiting_has_withdrawn_its_claim(node: NodeProcess) -> None:
    async def main() -> None:
        around = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["agni"])
        door = Member(load(url=node.url, token=node.tokens["agni"]), state=False)
        async with agent(node, "dc") as dc, Tools(door) as tools, dc.lease("role:editor"):

            async def waiting(count: int) -> None:
                for _ in range(100):
                    if sum(one["state"] == "waiting" for one in await dc.request(uris.LEASE_LIST)) == count:
                        return
                    await asyncio.sleep(0.1)
                raise AssertionError(await dc.request(uris.LEASE_LIST))

            asked = asyncio.ensure_future(tools.call("lease_claim", {"scope": "role:editor", "wait_s": 50}))
            await waiting(1)
            asked.cancel()
            await waiting(0)
            command = [*TRISHULA, "lease", "claim", "role:editor", "--wait", "300"]
            with subprocess.Popen(command, env=around, stderr=subprocess.DEVNULL) as script:
                await waiting(1)
                script.send_signal(signal.SIGINT)
                await waiting(0)

    in_own_loop(main)


def test_a_model_claims_before_it_works(node: NodeProcess) -> None:
    async def main() -> None:
        door = Member(load(url=node.url, token=node.tokens["agni"]), state=False)
        async with agent(node, "dc") as dc, Tools(door) as tools:
            assert "is yours (fencing token" in await tools.call(
                "lease_claim", {"scope": "path:web:docs", "note": "spelling"}
            )
            assert "web:docs: agni has it\n| spelling" in await tools.call("leases", {})
            async with dc.lease("role:editor"):
                said = await tools.call("lease_claim", {"scope": "role:editor", "queue": True})
                assert "You wait for role:editor" in said and "dc has role:editor" in said
            told = await tools.call("wait_for_message", {"wait_s": 10})
            assert "role:editor is yours now" in told
            assert await tools.call("lease_release", {"scope": "role:editor"}) == "You have role:editor no more."
            await tools.call("lease_release", {"scope": "path:web:docs"})

    in_own_loop(main)


def test_the_command_line(node: NodeProcess) -> None:
    told = lease(node, "dc", "claim", "task:ISSUE-17", "--note", "first", "--json")
    assert told.returncode == 0, told.stderr
    granted: dict[str, Any] = json.loads(told.stdout)
    # The command's session is gone, and the lease is there.
    refused = lease(node, "agni", "claim", "task:ISSUE-17")
    assert (refused.returncode, refused.stdout) == (75, "")
    assert "task:ISSUE-17 is not to be had: dc has task:ISSUE-17" in " ".join(refused.stderr.split())
    assert "ISSUE-17" in lease(node, "agni", "list", "--scope", "task:ISSUE-17").stdout
    assert lease(node, "agni", "list", "--mine").stdout == "no such lease\n"
    assert lease(node, "agni", "release", granted["id"], "--force", "--reason", "x").returncode == 4
    ended = lease(node, "ops", "release", granted["id"], "--force", "--reason", "the demo begins")
    assert "task:ISSUE-17 is free of dc" in ended.stdout, ended.stderr
    lost = lease(node, "dc", "renew", granted["id"])
    assert lost.returncode == 3 and "dc has no work lease" in " ".join(lost.stderr.split())


def test_a_command_runs_while_it_is_leased(node: NodeProcess) -> None:
    inner = [*TRISHULA, "lease", "list", "--json"]
    ran = lease(node, "dc", "run", "task:deploy", "--", *inner)
    assert [one["scope"] for one in json.loads(ran.stdout)] == ["task:deploy"], ran.stderr
    assert lease(node, "dc", "run", "task:deploy", "--", "sh", "-c", "exit 7").returncode == 7


def test_git_refuses_what_somebody_else_has_leased(node: NodeProcess, tmp_path: Path) -> None:
    repository, bin_ = tmp_path / "repository", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "trishula").write_text(f'#!/bin/sh\nexec {sys.executable} -m trishula.cli.main "$@"\n')
    (bin_ / "trishula").chmod(0o755)

    def git(*args: str, at: Path = repository) -> subprocess.CompletedProcess[str]:
        who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "core.excludesFile=/dev/null")
        return run(node, "agni", "git", *who, *args, at=at)

    def guard(*args: str, at: Path = repository) -> subprocess.CompletedProcess[str]:
        return run(node, "agni", "env", f"PATH={bin_}:{os.environ['PATH']}", "trishula", "lease", "guard", *args, at=at)

    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\ntouch ran-before\n")
    hook.chmod(0o755)
    installed = guard("install", "--tree", "web")
    assert installed.returncode == 0 and "runs first" in installed.stdout, installed.stderr
    assert guard("install", "--tree", "web").returncode == 0

    def commit(name: str, *more: str, at: Path = repository) -> subprocess.CompletedProcess[str]:
        (at / name).parent.mkdir(exist_ok=True)
        (at / name).write_text("x\n" * len(list(at.iterdir())))
        git("add", name, at=at)
        return git("commit", "-qm", name, *more, at=at)

    ask(node, "dc", uris.LEASE_CLAIM, "path:web:src/**", {"note": "renames", "ttl_s": 600})
    assert commit("a.py").returncode == 0
    assert (repository / "ran-before").exists()
    refused = commit("src/b.py")
    assert refused.returncode != 0
    assert "src/b.py is leased by dc (path:web:src/**: renames)" in " ".join(refused.stderr.split())
    # The same holds in a worktree.
    other = tmp_path / "other"
    git("worktree", "add", "-q", str(other))
    assert "leased by dc" in commit("src/c.py", at=other).stderr
    assert commit("src/b.py", "--no-verify").returncode == 0
    ask(node, "dc", uris.LEASE_RELEASE, "path:web:src/**")
    assert commit("src/d.py").returncode == 0
    # No bus: the commit is made, and the hook says so.
    unreached = run(node, "agni", "env", "TRISHULA_URL=ws://127.0.0.1:9/ws", "git", "-c", "user.name=x", "-c",
                    "user.email=x@x", "commit", "--allow-empty", "-qm", "x", at=repository)  # fmt: skip
    assert unreached.returncode == 0
    assert guard("uninstall").returncode == 0
    assert hook.read_text() == "#!/bin/sh\ntouch ran-before\n"
    assert "nothing to take out" in guard("uninstall").stderr


SCRIPT = """
import trishula
with trishula.connect() as bus:
    with bus.lease("path:src") as first:
        print("there", flush=True)
        input()
        first.renew()
    with bus.lease("path:src") as second:
        assert second.fence > first.fence and second.id != first.id and not second.provisional
"""


def test_it_outlives_the_node(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "state") as node:
        around = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.token("dc"))
        command = [sys.executable, "-c", SCRIPT]
        with subprocess.Popen(command, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
            assert script.stdout is not None
            assert script.stdout.readline() == "there\n"
            port = node.port
            node.kill()
            node.restart(port=port)
            script.communicate("\n", timeout=30)
            assert script.returncode == 0
