"""The rules of the house that a machine can keep: who imports whom, where time and names come from, what is packed.

Each test reads the sources with ``ast``; an exception to a rule stands in a list here, with its reason.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
AGENT_SIDE = "components/trishula"
NODE_SIDE = "router/trishula_router"
DRILL = "router/trishula_drill"
#: Folder → the package it is.
ROOTS = {
    AGENT_SIDE: "trishula",
    NODE_SIDE: "trishula_router",
    DRILL: "trishula_drill",
    "config": "trishula_router.config",
}


def sources(*folders: str) -> list[str]:
    """The modules below the folders, as paths from the root of the project."""
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tree_of(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), filename=path)


def imports_of(path: str) -> Iterator[tuple[str, int]]:
    """Each imported name, dotted and absolute, with its line; at the top of the module or inside of a function."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def breaches(paths: list[str], package: str) -> list[str]:
    """Where the modules import ``package`` or something below it."""
    return [
        f"{path}:{line} imports {name}"
        for path in paths
        for name, line in imports_of(path)
        if name == package or name.startswith(package + ".")
    ]


EVERYWHERE = sources(AGENT_SIDE, NODE_SIDE, DRILL, "config")


def test_there_are_sources() -> None:
    # A renamed folder must not turn the tests below into tests of nothing.
    assert f"{AGENT_SIDE}/contract/uris.py" in EVERYWHERE
    assert f"{NODE_SIDE}/__init__.py" in EVERYWHERE


#: The one room of the agent side that knows the node: who tests an agent runs a node in memory. Nothing imports it.
TESTING = f"{AGENT_SIDE}/testing/"


@pytest.mark.parametrize("package", ["trishula_router", "crossbar"])
def test_the_agent_side_never_imports(package: str) -> None:
    assert breaches([path for path in sources(AGENT_SIDE) if not path.startswith(TESTING)], package) == []


def test_only_tests_import_the_bus_in_memory() -> None:
    assert breaches([path for path in EVERYWHERE if not path.startswith(TESTING)], "trishula.testing") == []


def test_the_bus_in_memory_needs_no_router() -> None:
    code = "import sys, trishula.testing; print({*sys.modules} & {'crossbar', 'autobahn', 'twisted.internet.reactor'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


#: Of the agent side; the first one says what is walled off.
WALL = ("connection", "web_socket", "compression", "wamp_link", "wamp_errors")


def test_autobahn_is_behind_a_wall_on_either_side() -> None:
    # The links in upstream stand in the place of Crossbar's own, which are sessions of Autobahn's.
    ours = {f"{AGENT_SIDE}/session/{name}.py" for name in WALL}
    walls = {*ours, f"{NODE_SIDE}/edge.py", *sources(f"{NODE_SIDE}/upstream")}
    assert breaches([path for path in EVERYWHERE if path not in walls], "autobahn") == []


#: An agent's file, the door's, and what an import sees, which is too much for its memory.
SQLITE = {f"{AGENT_SIDE}/{name}.py" for name in ("messaging/agent_file", "a2a_door/ledger", "files/seen")}


def test_sqlite_is_in_the_store_and_in_three_files_of_the_agent_side() -> None:
    outside = [path for path in EVERYWHERE if not path.startswith(f"{NODE_SIDE}/store/")]
    places = {found.partition(":")[0] for found in breaches(outside, "sqlite3")}
    assert places == SQLITE


# -- rooms -------------------------------------------------------------------------------------------------------------

#: The rooms, from the ground up: each imports from those before it only. Between and above them are single modules.
FLOORS = (
    "trishula.runtime",
    "trishula.contract",
    "trishula.session",
    "trishula.messaging",
    "trishula.files",
    "trishula.evidence",
    "trishula.consumer",
    "trishula.tools",
    "trishula.doctor",
    "trishula.checks",
    "trishula.watching",
    "trishula.reports",
    "trishula.cli",
    "trishula.front_door",
    "trishula.waking",
    "trishula.a2a_door",
    "trishula.agents",
    "trishula_router.store",
    "trishula_router.settings",
    "trishula_router.templates",
    "trishula_router.cluster",
    "trishula_router.clocks",
    "trishula_router.alerts",
    "trishula_router.objectives",
    "trishula_router.agents",
    "trishula_router.peers",
    "trishula_router.mail",
    "trishula_router.mirroring",
    "trishula_router.cells",
    "trishula_router.store.sqlite",
    "trishula_router.upstream",
    "trishula_router.proxy_workers",
    "trishula_router.verbs",
    "trishula_router.metrics",
    "trishula_router.health",
    "trishula_router.endpoints",
    "trishula.testing",
    "trishula_router.doctor",
    "trishula_router.commands",
    "trishula_drill",
)


def room_of(module: str) -> str:
    """The package that a module lies in; a module at the top is a room of its own."""
    names = {module, module.rpartition(".")[0]}
    return next((floor for floor in reversed(FLOORS) if floor in names), module)


def arrows() -> dict[str, set[str]]:
    """Each room → the rooms that its modules import from, for their types too."""
    modules = {module_of(path) for path in EVERYWHERE}
    found: dict[str, set[str]] = {}
    for path in EVERYWHERE:
        own = room_of(module_of(path))
        for name, _ in imports_of(path):
            whose = name if name in modules else name.rpartition(".")[0]
            if whose in modules and room_of(whose) != own:
                found.setdefault(own, set()).add(room_of(whose))
    return found


def module_of(path: str) -> str:
    """The name of a module; of a package it is the package's."""
    root = next(root for root in ROOTS if path.startswith(f"{root}/"))
    inner = Path(path).relative_to(root).with_suffix("")
    return ".".join([ROOTS[root], *inner.parts]).removesuffix(".__init__")


def test_rooms_import_from_below_only() -> None:
    upward = [
        f"{room} imports from {other}"
        for room, others in arrows().items()
        for other in others
        if room in FLOORS and other in FLOORS and FLOORS.index(other) > FLOORS.index(room)
    ]
    assert upward == []


def test_no_room_needs_another_that_needs_it() -> None:
    left = arrows()
    # Take away what needs nothing that is left, until there is nothing more to take.
    while free := [room for room in {*left, *(o for many in left.values() for o in many)} if not left.get(room)]:
        left = {room: others - set(free) for room, others in left.items() if room not in free}
    assert left == {}


REFERENCE = re.compile(r":mod:`~?([\w.]+)`")


@pytest.mark.parametrize("path", EVERYWHERE)
def test_docstrings_name_modules_that_exist(path: str) -> None:
    known = {module_of(each) for each in EVERYWHERE}
    own = module_of(path)
    package = own if path.endswith("/__init__.py") else own.rpartition(".")[0]
    named = REFERENCE.findall((ROOT / path).read_text(encoding="utf-8"))
    # With a dot in front it is looked for beside the module, as a reader does.
    ours = [
        f"{package}{name}" if name.startswith(".") else name for name in named if name.startswith((".", "trishula"))
    ]
    assert [name for name in ours if name not in known] == []


ROLE = re.compile(r":[a-z]+:`[^`]*`")


def test_tables_in_docstrings_are_whole() -> None:
    # Who breaks the lines of a docstring anew, with a tool, makes one paragraph of a table's rows.
    found = []
    for path in EVERYWHERE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if "====" in text:
                    # As wide as it was, for docutils alone knows none of Sphinx's roles.
                    plain = ROLE.sub(lambda role: "x" * len(role[0]), text)
                    told = io.StringIO()
                    publish_doctree(plain, settings_overrides={"warning_stream": told, "report_level": 2})
                    found += [f"{path}: {told.getvalue()}"] if told.getvalue() else []
    assert found == []


# -- length ------------------------------------------------------------------------------------------------------------

#: Beyond it a module says in a comment why it is one module all the same.
MOST_LINES = 400
WHY_LONG = re.compile(r"^# Long because: \S", re.MULTILINE)


def test_no_module_is_long_without_a_reason() -> None:
    found = []
    for path in EVERYWHERE:
        text = (ROOT / path).read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > MOST_LINES and WHY_LONG.search(text) is None:
            found.append(f"{path} has {lines} lines: split it by a noun, or say in it '# Long because: …'")
    assert found == []


# -- names -------------------------------------------------------------------------------------------------------------


def docstrings_of(tree: ast.Module) -> set[int]:
    """The ids of the nodes that are documentation, not values: a string that stands alone as a statement."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def is_name_of_code(text: str) -> bool:
    """Whether it names a module of ours (for a logger, ``python -m``) or a group of entry points, not a URI."""
    if text == "trishula.commands":
        return True
    parts = text.split(".")
    return (ROOT / "components" / Path(*parts)).with_suffix(".py").exists() or (
        ROOT / "components" / Path(*parts)
    ).is_dir()


def test_uris_are_spelled_out_in_one_module() -> None:
    found = []
    for path in EVERYWHERE:
        if path == f"{AGENT_SIDE}/contract/uris.py":
            continue
        tree = tree_of(path)
        documentation = docstrings_of(tree)
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or id(node) in documentation:
                continue
            text = node.value
            if path == f"{AGENT_SIDE}/errors.py" and text.startswith("trishula.error."):
                continue
            if re.match(r"trishula\.[a-z]*", text) and not is_name_of_code(text.rstrip(".")):
                found.append(f"{path}:{node.lineno} {text!r}")
    assert found == []


# -- time, chance and the reactor enter at the edge --------------------------------------------------------------------

#: Where a process begins or meets the world; everything else gets its clock, its chance and its ids as arguments.
SHELLS = {
    "components/trishula/consumer/process.py": "agent.run() starts the reactor",
    "components/trishula/agents/agni.py": "measures the machine it runs on",
    "components/trishula/agents/dc.py": "measures what it asks for",
    "components/trishula/agents/host_report.py": "measures the machine it runs on",
    "components/trishula/agents/rushabdev.py": "measures the machine it runs on",
    "components/trishula/consumer/loop_watch.py": "a thread that looks at the loop from outside",
    "components/trishula/tools/bench.py": "measures",
    "components/trishula/tools/bench_worker.py": "measures",
    "components/trishula/sync.py": "starts the reactor's thread",
    "components/trishula/files/folder.py": "measures how long a file has not changed, in threads of its callers",
    "components/trishula/session/carrying.py": "Autobahn",
    "components/trishula/session/connection.py": "Autobahn",
    "components/trishula/runtime/loops.py": "drives Twisted by a loop",
    "components/trishula/front_door/web_server.py": "gives its doors their clock",
    "components/trishula/waking/command.py": "a command: it looks at a clock that outlives it, and waits",
    "components/trishula/testing/memory_bus.py": "begins at the wall clock's time, and waits for what is real",
    "components/trishula/contract/spelling.py": "writes UUIDs, and makes none",
    "components/trishula/runtime/surroundings.py": "the agent side's clocks, timers and chance, for everybody else",
    "router/trishula_drill/cells_faults.py": "chance from a seed, nothing else",
    "router/trishula_drill/cells_rounds.py": "a drill: clocks, and a key of its own",
    "router/trishula_drill/redis_process.py": "waits for a process",
    "router/trishula_drill/cluster_faults.py": "all chance comes from the seed",
    "router/trishula_drill/cluster_rounds.py": "as rounds.py",
    "router/trishula_drill/fallback_faults.py": "all chance comes from the seed",
    "router/trishula_drill/fallback_rounds.py": "as rounds.py",
    "router/trishula_drill/node_rounds.py": "as rounds.py",
    "router/trishula_drill/command.py": "chooses a seed",
    "router/trishula_drill/dials.py": "sets the clock of a drill's own process",
    "router/trishula_drill/faults.py": "all chance comes from the seed",
    "router/trishula_drill/linked.py": "makes tokens of now",
    "router/trishula_drill/processes.py": "starts, signals and waits for processes",
    "router/trishula_drill/proxy.py": "a network: sockets, delays",
    "router/trishula_drill/rounds.py": "the drill itself: it waits, and measures",
    "router/trishula_drill/stage.py": "as rounds.py",
    "router/trishula_drill/worker.py": "a process of its own, with a reactor",
    "router/trishula_router/clocks/machine.py": "the machine's clocks, for the node",
    "router/trishula_router/edge.py": "makes nonces and epochs",
    "router/trishula_router/upstream/mends.py": "hands clocks and chance to what mends Crossbar",
    "router/trishula_router/node.py": "the composition root",
    "router/trishula_router/proxy_workers/process.py": "a process of its own, with a reactor",
    "router/trishula_router/store/sqlite/holding.py": "writes down since when a store is in use",
    "router/trishula_router/store/sqlite/store.py": "names the epoch of a new store",
}
SHELL_FOLDERS = ("components/trishula/cli/", "router/trishula_router/commands")
SOURCES_OF_CHANCE = ("random", "uuid", "secrets")
CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("os", "urandom"),
}


def test_time_chance_and_the_reactor_enter_at_the_edge() -> None:
    found = []
    for path in EVERYWHERE:
        if path in SHELLS or path.startswith(SHELL_FOLDERS):
            continue
        for name, line in imports_of(path):
            if name.partition(".")[0] in SOURCES_OF_CHANCE or name.startswith("twisted.internet.reactor"):
                found.append(f"{path}:{line} imports {name}")
            if tuple(name.rsplit(".", 1)) in CLOCKS:
                found.append(f"{path}:{line} imports {name}")
        for node in ast.walk(tree_of(path)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and (node.value.id, node.attr) in CLOCKS
            ):
                found.append(f"{path}:{node.lineno} uses {node.value.id}.{node.attr}")
    assert found == []


def test_no_exception_is_swallowed_whole() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path in EVERYWHERE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert found == []


def narrows(test: ast.expr) -> bool:
    """If an assert only says what our own code made sure of: ``x is not None``, ``isinstance(x, T)``, ``x.done``."""
    if isinstance(test, ast.Name | ast.Attribute):
        return True
    if isinstance(test, ast.BoolOp):
        return all(narrows(value) for value in test.values)
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.IsNot | ast.Is) and ast.unparse(test.comparators[0]) == "None"
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


def test_no_assert_checks_input() -> None:
    # An assert is gone under -O.
    found = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path in EVERYWHERE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assert) and not narrows(node.test)
    ]
    assert found == []


# -- what is packed ----------------------------------------------------------------------------------------------------


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_cfg_lists_every_package() -> None:
    listed = set(setup_cfg()["options"]["packages"].split())
    there = set()
    for folder, package in ROOTS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            there.add(".".join([package, *inner]))
    assert listed == there


#: What imports the SDK of MCP or of A2A.
BESIDE_CROSSBAR = {f"{AGENT_SIDE}/front_door/{name}.py" for name in ("http_server", "server", "web_server")} | {
    f"{AGENT_SIDE}/a2a_door/{name}.py"
    for name in ("handler", "keys", "remote", "service", "standing", "web_server", "webhooks")
}


@pytest.mark.parametrize("path", [path for path in EVERYWHERE if not path.startswith("config/")])
def test_all_names_what_is_there(path: str) -> None:
    inner = Path(path).relative_to(Path(path).parts[0]).with_suffix("")
    name = ".".join(inner.parts).removesuffix(".__init__")
    if name.endswith("__main__"):
        pytest.skip("running it is what it is for")
    if path in BESIDE_CROSSBAR:
        pytest.skip("its library can't be installed beside Crossbar; test_front_door.py and test_a2a_door.py run it")
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [each for each in exported if not hasattr(module, each)] == []
    assert len(set(exported)) == len(exported)
    assert module.__doc__, "each module says what it is about"


def test_nothing_is_asked_for_twice() -> None:
    lines = setup_cfg()["options"]["install_requires"].strip().splitlines()
    names = [canonicalize_name(Requirement(line).name) for line in lines]
    assert sorted(set(names)) == sorted(names)


def declared(*extras: str) -> set[str]:
    config = setup_cfg()
    lines = config["options"]["install_requires"].strip().splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].strip().splitlines()
    return {canonicalize_name(Requirement(line).name) for line in lines}


#: Packages whose distribution has another name.
OTHERWISE_CALLED = {"OpenSSL": "pyopenssl", "a2a": "a2a-sdk", "google": "protobuf", "jwt": "pyjwt"}


def distribution_of(module: str) -> str:
    """What is to be installed for it: zope is a name that many distributions share."""
    if module.startswith("opentelemetry."):
        # Its other packages come with these two, whose parts they are.
        return "opentelemetry-exporter-otlp-proto-http" if ".otlp." in module else "opentelemetry-sdk"
    first = module.partition(".")[0]
    if first in OTHERWISE_CALLED:
        return OTHERWISE_CALLED[first]
    return ".".join(module.split(".")[: 2 if module.startswith("zope.") else 1])


@pytest.mark.parametrize(
    ("folder", "extras"),
    [(AGENT_SIDE, ("cli", "agents", "files", "report", "otel", "mcp", "a2a")), (NODE_SIDE, ("router", "redis"))],
)
def test_what_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    ours = {"trishula", "trishula_router", "__future__"}
    imported = {distribution_of(name) for path in sources(folder) for name, _ in imports_of(path)}
    foreign = imported - set(sys.stdlib_module_names) - ours
    # What comes as another's dependency today may be gone with its next release.
    assert {canonicalize_name(name) for name in foreign} <= declared(*extras)


def test_an_agent_needs_no_tools() -> None:
    # What sums up a bus's figures is of the tools and of the node; no agent imports it.
    names = ("cli/", "front_door/", "waking/", "a2a_door/", "agents/", "watching/sketches.py")
    tools = tuple(f"{AGENT_SIDE}/{name}" for name in names)
    outside = [path for path in sources(AGENT_SIDE) if not path.startswith(tools)]
    imported = {distribution_of(name) for path in outside for name, _ in imports_of(path)}
    extras = {canonicalize_name(name) for name in imported} & (declared("cli", "agents") - declared())
    assert extras == set()
    assert {"numpy", "click", "rich", "psutil", "bjdata"}.isdisjoint(locked("agent"))


def test_entry_points_can_be_imported() -> None:
    for line in setup_cfg()["options.entry_points"].values():
        for entry in line.strip().splitlines():
            module, _, attribute = entry.partition("=")[2].strip().partition(":")
            assert callable(getattr(importlib.import_module(module), attribute)), entry


# -- the lock ----------------------------------------------------------------------------------------------------------

LOCKS = {
    "agent": (),
    "router": ("router", "redis"),
    "dev": ("router", "redis", "dev"),
    "examples": ("examples",),
    "mcp": ("mcp",),
    "a2a": ("a2a",),
    "frameworks": ("frameworks",),
    "crewai": ("crewai",),
}


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "deploy" / "lock" / f"{name}.txt").read_text()
    pins: dict[str, str] = {}
    for pin in re.findall(r"^[A-Za-z0-9._-]+==[^\\\n]+", text, flags=re.MULTILINE):
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11"}):
            pins[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return pins


@pytest.mark.parametrize(("name", "extras"), LOCKS.items())
def test_the_lock_holds_what_setup_cfg_asks_for(name: str, extras: tuple[str, ...]) -> None:
    config = setup_cfg()
    wanted = config["options"]["install_requires"].strip().splitlines()
    for extra in extras:
        wanted += config["options.extras_require"][extra].strip().splitlines()
    pins = locked(name)
    for line in wanted:
        requirement = Requirement(line)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{name}.txt lacks {requirement.name}: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{name}.txt: {line} is locked at {version}"


def test_the_locks_agree() -> None:
    everything = locked("dev").items()
    assert locked("agent").items() <= everything
    assert locked("router").items() <= everything


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_index(name: str) -> None:
    text = (ROOT / "deploy" / "lock" / f"{name}.txt").read_text()
    assert "://" not in text
    pins = re.findall(r"^\w.*\n.*", text, flags=re.MULTILINE)
    assert len(pins) > 20
    assert [pin for pin in pins if not re.fullmatch(r"[^ ]+==.*\\\n    --hash=sha256:[0-9a-f]{64}( \\)?", pin)] == []


def test_an_agents_machine_needs_no_crossbar() -> None:
    assert {"crossbar", "pytest"}.isdisjoint(locked("agent"))
