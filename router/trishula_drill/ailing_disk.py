"""A disk whose fsync fails or hangs, for the SQLite of this process: a VFS around its own one.

SQLite reaches files through a *VFS*, a table of functions, and each open file through another one, its *methods*. Ours
is a copy of the default VFS whose files have a copy of their methods; in these ``xSync`` fails, or waits, while the
drill wants it to. All else is SQLite's own code on the real file, so what a failed fsync leaves in the file is what a
real one leaves there: all that was written, and nobody's word for it.

Rejected: LD_PRELOAD (not for static builds, not on every platform), a loop device on a full tmpfs as the contract tests
have it (needs root, and fails writes too), ptrace and seccomp (the same, for more code).
"""

from __future__ import annotations

import ctypes
import importlib
import time
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_void_p
from typing import Any

from trishula_drill.dials import Dials

__all__ = ["NoWayIn", "sqlite_library", "use_ailing_disk"]

#: ``SQLITE_IOERR_FSYNC``.
_IOERR_FSYNC = 10 | (4 << 8)
#: How many functions a file's methods have, by their version.
_METHODS_OF = {1: 12, 2: 16, 3: 18}
#: How many functions a VFS has behind its ``xOpen``, by its version.
_OTHERS_OF = {1: 11, 2: 12, 3: 15}
#: Where ``xSync`` stands among them.
_SYNC = 4
#: How often an fsync that hangs looks whether it still shall.
_LOOK_S = 0.01

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class NoWayIn(Exception):
    """The SQLite of this Python can't be reached."""


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs``; what stands behind ``xOpen`` is only copied."""

    _fields_ = (
        ("version", c_int),
        ("file_bytes", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app_data", c_void_p),
        ("open", c_void_p),
        ("others", c_void_p * max(_OTHERS_OF.values())),
    )


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = (("version", c_int), ("functions", c_void_p * max(_METHODS_OF.values())))


class _File(ctypes.Structure):
    """``sqlite3_file``, up to where the VFS's own part begins."""

    _fields_ = (("methods", POINTER(_Methods)),)


#: SQLite keeps pointers to all of it for as long as the process lives.
_kept: list[object] = []


def sqlite_library() -> Any:
    """The library that Python's own ``sqlite3`` works with.

    Raises:
        NoWayIn: it shows its functions to nobody.
    """
    # The module is linked with the library, or holds it, and a look-up in the one looks in the other too.
    library = ctypes.CDLL(getattr(importlib.import_module("_sqlite3"), "__file__", None))
    try:
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        library.sqlite3_vfs_find.argtypes = [c_char_p]
        library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    except AttributeError:
        raise NoWayIn(
            "this Python shows nobody the functions of its SQLite, so no fsync can be made to fail; use one that is "
            "linked with the system's libsqlite3"
        ) from None
    return library


def use_ailing_disk(dials: Dials) -> None:
    """Make this process's databases, opened from now on, fail to sync, or wait with it, while the drill wants it.

    Raises:
        NoWayIn: see :func:`sqlite_library`.
    """
    library = sqlite_library()
    real = library.sqlite3_vfs_find(None)
    real_open = _Open(real.contents.open)
    # The real VFS has a few tables of methods, all of them constants; each gets one copy.
    copies: dict[int, _Methods] = {}

    def ailing(methods: Any) -> _Methods:
        address = ctypes.addressof(methods.contents)
        if address not in copies:
            copies[address] = _with_ailing_sync(methods.contents, dials)
        return copies[address]

    def open_file(_: int, name: int, file: int, flags: int, out: int) -> int:
        # The name goes on as a pointer: SQLite keeps it, and expects more behind it than a string.
        code: int = real_open(ctypes.addressof(real.contents), name, file, flags, out)
        opened = _File.from_address(file)
        if code == 0 and opened.methods:
            opened.methods = ctypes.pointer(ailing(opened.methods))
        return code

    opener = _Open(open_file)
    vfs = _Vfs()
    version = min(real.contents.version, max(_OTHERS_OF))
    # No further than the table goes: behind it is something else.
    ctypes.memmove(ctypes.byref(vfs), real, _Vfs.others.offset + _OTHERS_OF[version] * ctypes.sizeof(c_void_p))
    vfs.version, vfs.next, vfs.name, vfs.open = version, None, b"ailing", ctypes.cast(opener, c_void_p)
    _kept.extend((library, real, real_open, opener, copies, vfs))
    if library.sqlite3_vfs_register(ctypes.byref(vfs), 1) != 0:
        raise NoWayIn("the SQLite of this Python takes no further VFS, so no fsync can be made to fail")


def _with_ailing_sync(methods: _Methods, dials: Dials) -> _Methods:
    real_sync = _Sync(methods.functions[_SYNC])

    def sync(file: int, flags: int) -> int:
        while dials.is_hanging:
            time.sleep(_LOOK_S)
        if dials.is_failing:
            dials.failures += 1
            return _IOERR_FSYNC
        code: int = real_sync(file, flags)
        return code

    copy = _Methods()
    copy.version = min(methods.version, max(_METHODS_OF))
    count = _METHODS_OF[copy.version]
    ctypes.memmove(copy.functions, methods.functions, count * ctypes.sizeof(c_void_p))
    ailing_sync = _Sync(sync)
    copy.functions[_SYNC] = ctypes.cast(ailing_sync, c_void_p)
    _kept.extend((real_sync, ailing_sync))
    return copy
