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


def runs(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_stands_in_becomes_the_real_thing_when_it_is_used() -> None:
    runs(
        "import sys; from trishula_router.late_imports import import_late; import_late()\n"
        "from eth_keyfile import create_keyfile_json, decode_keyfile_json\n"
        "assert 'py_ecc' not in sys.modules\n"
        "made = create_keyfile_json(bytes(range(32)), b'password', kdf='pbkdf2', iterations=1)\n"
        "assert decode_keyfile_json(made, b'password') == bytes(range(32))\n"
        "assert 'py_ecc' in sys.modules and sys.modules['eth_keyfile'].__file__\n"
    )


#: What a node's processes import of Crossbar.
ALL_OF_CROSSBAR = (
    "import sys; from trishula_router.late_imports import import_late; import_late()\n"
    "import crossbar, crossbar.worker.main, crossbar.worker.router, crossbar.edge\n"
    "from crossbar.router.auth import cryptosign\n"
    "from crossbar.router import inventory\n"
)


def test_nothing_of_a_node_imports_clients_of_blockchains_of_tor_or_of_docker() -> None:
    runs(
        f"{ALL_OF_CROSSBAR}"
        "loaded = {'aiohttp', 'requests', 'websockets'} & set(sys.modules)\n"
        "late = ('cfxdb', 'docker', 'eth_abi', 'txtorcon', 'web3')\n"
        "real = [name for name in late if sys.modules[name].__spec__.origin]\n"
        "assert not loaded and not real, (loaded, real)\n"
    )


def test_crossbars_own_use_of_them_finds_them_with_the_names_that_crossbar_gives_them() -> None:
    address = "0xF7acf1C4CB4a9550B8969576573C2688B48988C2"
    runs(
        f"{ALL_OF_CROSSBAR}"
        f"assert cryptosign.web3.Web3.toChecksumAddress({address.lower()!r}) == {address!r}\n"
        "assert inventory.FbsRepository(basemodule='x') is not None\n"
        "import web3, xbr\n"
        f"assert web3.Web3.toChecksumAddress({address.lower()!r}) == {address!r}\n"
        "assert isinstance(xbr.FbsRepository, type) and issubclass(xbr.SimpleBuyer, object)\n"
        "class Told(cryptosign.web3.Web3): pass\n"
    )


def test_a_stand_in_is_good_for_annotations_bases_and_tests_of_types() -> None:
    runs(
        "import sys; from trishula_router.late_imports import import_late; import_late()\n"
        "from typing import Optional\n"
        "import eth_keyfile\n"
        "from eth_keyfile.keyfile import KDFType, Random\n"
        "def hint(a: KDFType | None, b: 'None | KDFType', c: Optional[KDFType], d: KDFType[int]) -> None: ...\n"
        "assert not isinstance(1, KDFType) and not hasattr(eth_keyfile, '__wrapped__')\n"
        "assert 'py_ecc' not in sys.modules\n"
        "from docker.errors import APIError\n"
        "class Fault(APIError): pass\n"
        "assert issubclass(Fault, Exception)\n"
    )


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
