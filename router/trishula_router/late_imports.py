"""Crossbar's imports, without what nothing of a node uses: stand-ins that import the real thing when it is called.

Crossbar brings parts for a blockchain, for Tor and for Docker. No node of ours has them, and yet they were a third of
the time in which a node starts, and 60 MiB of its memory. A function or a class of such a package is here an object
that takes its place where Crossbar names it: in an import, in an annotation, in a test for old names. Whoever calls it
calls the real one, which is imported then, with all that it needs. Rejected: to hide the packages (Crossbar would not
start), and to copy Crossbar's imports into our own (each release has others).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["import_late"]

#: What is not imported, with a dot behind it: packages, and of Crossbar single modules. ``web3`` brings aiohttp,
#: requests and websockets; ``eth_keyfile`` computes constants of elliptic curves for 0.3 s; a cookie store is for
#: listeners with cookies.
_LATE = (
    "cfxdb.",
    "crossbar.edge.worker.xbrmm.",
    "crossbar.router.cookiestore.",
    "docker.",
    "eth_abi.",
    "eth_keyfile.",
    "txtorcon.",
    "web3.",
    "xbr._schema.",
)
#: Crossbar's own package for the blockchain. It stands in for itself, but the modules in it are the real ones: the
#: controller reads its key by one of them.
_PARTLY = "xbr"


def import_late() -> None:
    """From now on, put stand-ins where such packages are imported."""
    sys.meta_path.insert(0, _LateImport())


class _LateImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not f"{fullname}.".startswith(_LATE) and fullname != _PARTLY:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if fullname == _PARTLY:
            real = importlib.machinery.PathFinder.find_spec(fullname)
            spec.submodule_search_locations = real.submodule_search_locations if real else None
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class _StandIn(ModuleType):
    """In the place of a module: it seems to have every name, as whoever looks for one at its import expects."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if isinstance(sys.modules.get(self.__name__, self), _StandIn):
            return _Late(self.__name__, (name,))
        # Somebody holds on to the stand-in, though the real one has come.
        return getattr(importlib.import_module(self.__name__), name)


class _Late:
    """In the place of what a module holds.

    Args:
        module: the module's name.
        path: the names that lead to it there.
    """

    def __init__(self, module: str, path: tuple[str, ...]) -> None:
        self._module = module
        self._path = path

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Late(self._module, (*self._path, name))

    def __or__(self, other: object) -> object:
        # A type in an annotation; so is one with brackets.
        return Any

    __ror__ = __getitem__ = __or__

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: object) -> bool:
        # One would have been made by a call.
        return False

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._real()(*args, **kwargs)

    def _real(self) -> Any:
        _forget_stand_ins()
        real: Any = importlib.import_module(self._module)
        for name in self._path:
            real = getattr(real, name)
        return real


def _forget_stand_ins() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _LateImport)]
    names = [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]
    for name in names:
        del sys.modules[name]
        # Whatever is imported from a package is looked for as an attribute of it first.
        package, _, last = name.rpartition(".")
        if isinstance(vars(sys.modules.get(package, sys)).get(last), _StandIn):
            delattr(sys.modules[package], last)
    if names and "crossbar" in sys.modules:
        # When it is imported, it gives old names to what is new in web3 and eth_abi.
        importlib.reload(sys.modules["crossbar"])
