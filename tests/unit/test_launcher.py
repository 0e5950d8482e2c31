"""The launcher of Crossbar's processes: each test is a process of its own, because it is about a process's imports."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import environment
from trishula_router.launcher import worker_program

#: A stand-in for Crossbar that says how it was started.
FAKE_CROSSBAR = """
import gc, os, sys
import eth_keyfile
from eth_keyfile.keyfile import KDFType
stands_in = type(eth_keyfile).__name__ == "_StandIn"
late: "KDFType | None" = None
def hint(kdf: KDFType | None = None) -> None: ...
if {refuse} and stands_in:
    raise RuntimeError("used otherwise")
def run():
    print(stands_in, gc.isenabled(), gc.get_freeze_count() > 1000, os.getpgrp() == os.getpid(), sys.argv)
"""


def launch(directory: Path, refuse: bool) -> str:
    package = directory / "crossbar"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE_CROSSBAR.format(refuse=refuse))
    # The launcher has Crossbar write lines of ours.
    (package / "_logging.py").touch()
    path = environment()["PYTHONPATH"]
    with subprocess.Popen(
        [sys.executable, "-m", "trishula_router.launcher", "start", "--cbdir", "x y"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(PYTHONPATH=f"{directory}:{path}"),
    ) as process:
        assert process.stdout is not None
        return process.stdout.read().strip()


def test_crossbar_is_imported_with_the_stand_in_and_the_collector_works_afterwards(tmp_path: Path) -> None:
    assert launch(tmp_path, refuse=False) == "True True True True ['crossbar', 'start', '--cbdir', 'x y']"


def test_if_the_stand_in_does_not_do_everything_is_imported_as_it_comes(tmp_path: Path) -> None:
    assert launch(tmp_path, refuse=True) == "False True True True ['crossbar', 'start', '--cbdir', 'x y']"


def test_what_stands_in_becomes_the_real_thing_when_it_is_used() -> None:
    program = (
        "import sys; from trishula_router import launcher; sys.meta_path.insert(0, launcher._LateImport())\n"
        "from eth_keyfile import create_keyfile_json, decode_keyfile_json\n"
        "assert 'py_ecc' not in sys.modules\n"
        "made = create_keyfile_json(bytes(range(32)), b'password', kdf='pbkdf2', iterations=1)\n"
        "assert decode_keyfile_json(made, b'password') == bytes(range(32))\n"
        "assert 'py_ecc' in sys.modules and sys.modules['eth_keyfile'].__file__\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_program_of_the_worker_hands_its_arguments_on(tmp_path: Path) -> None:
    program = tmp_path / "worker python"
    assert worker_program().startswith("#!/bin/sh\n")
    assert worker_program().endswith(' -u -m trishula_router.launcher "$@"\n')
    program.write_text(worker_program().replace("-m trishula_router.launcher", "-c 'import sys; print(sys.argv)'"))
    program.chmod(0o700)
    done = subprocess.run([program, "-u", "a b"], capture_output=True, text=True)
    assert done.stdout.strip() == "['-c', '-u', 'a b']"


def test_the_worker_gives_large_blocks_back_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    program = tmp_path / "worker-python"
    show = 'import os; print([os.environ[name] for name in sorted(os.environ) if name.startswith("MALLOC_")])'
    program.write_text(worker_program().replace("-m trishula_router.launcher", f"-c '{show}'"))
    program.chmod(0o700)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for said, threshold in (({}, "2097152"), ({"MALLOC_MMAP_THRESHOLD_": "4096"}, "4096")):
        done = subprocess.run([program], capture_output=True, text=True, env={**clean, **said})
        assert done.stdout.strip() == f"['2', '{threshold}', '8388608']"


@pytest.mark.parametrize(("soft", "hard", "then"), [(256, 4096, 4096), (256, 12_000, 12_000), (4096, 4096, 4096)])
def test_a_node_may_have_as_many_connections_as_the_system_lets_it(soft: int, hard: int, then: int) -> None:
    program = (
        "import resource; from trishula_router.launcher import allow_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "allow_files(); print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this process may not have so many files itself")
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (f"({then}, {hard})", "")
