"""Stand between SQLite and the system: record each write and sync of a database and its log, or make syncs slow.

SQLite calls the system through two tables of functions, sqlite3_vfs and sqlite3_io_methods
(https://sqlite.org/c3ref/io_methods.html), whose layout is part of its interface. We put our own functions into them.
"""

import _sqlite3
import ctypes
import itertools
import os
import pickle
import signal
import time
from ctypes import CFUNCTYPE, c_int, c_int64, c_void_p

DATABASE, JOURNAL, WAL = 0x100, 0x800, 0x80000  # SQLITE_OPEN_...
X_OPEN, X_DELETE = 40, 48  # offsets into sqlite3_vfs
METHODS, X_WRITE, X_TRUNCATE, X_SYNC = 19, 3, 4, 5  # of sqlite3_io_methods: its size, and places in it, in pointers

Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)  # SQLite keeps the name: so no c_char_p
Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
Sync = CFUNCTYPE(c_int, c_void_p, c_int)

keep = []  # what C points to must not be collected


def possible() -> bool:
    """Whether this Python's SQLite shows its functions: a shared library does, one that is built in may not."""
    return hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find")


def intercept(journal=None, operations=0, sync_seconds=0.0):
    """Record into the file `journal`, if there is one, and die of SIGKILL before the operation of this number, unless
    it is 0; let each sync take longer."""
    record = recorder(journal, operations) if journal else lambda *_: None
    find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    find.restype = c_void_p
    vfs = find(None)
    names = {}  # file -> name
    tables = {}  # SQLite's table of methods -> ours

    def patch(kind, address, make):
        pointer = c_void_p.from_address(address)
        ours = kind(make(kind(pointer.value)))
        keep.append(ours)
        pointer.value = ctypes.cast(ours, c_void_p).value

    def opening(real):
        def x_open(vfs, name, file, flags, out_flags):
            status = real(vfs, name, file, flags, out_flags)
            if status == 0 and flags & (DATABASE | JOURNAL | WAL):
                names[file] = base_name(name)
                methods = c_void_p.from_address(file)
                if methods.value not in tables:
                    tables[methods.value] = copy(methods.value)
                methods.value = tables[methods.value]
            return status

        return x_open

    def copy(methods):
        table = (c_void_p * METHODS).from_buffer_copy((c_void_p * METHODS).from_address(methods))
        keep.append(table)
        address = ctypes.addressof(table)
        for kind, place, make in ((Write, X_WRITE, writing), (Truncate, X_TRUNCATE, cutting), (Sync, X_SYNC, syncing)):
            patch(kind, address + place * ctypes.sizeof(c_void_p), make)
        return address

    def writing(real):
        def x_write(file, data, length, offset):
            record("write", names[file], offset, ctypes.string_at(data, length))
            return real(file, data, length, offset)

        return x_write

    def cutting(real):
        def x_truncate(file, size):
            record("truncate", names[file], size, b"")
            return real(file, size)

        return x_truncate

    def syncing(real):
        def x_sync(file, flags):
            time.sleep(sync_seconds)
            status = real(file, flags)
            if status == 0:
                record("sync", names[file], 0, b"")
            return status

        return x_sync

    def deleting(real):
        def x_delete(vfs, name, sync_directory):
            record("delete", base_name(name), 0, b"")
            return real(vfs, name, sync_directory)

        return x_delete

    patch(Open, vfs + X_OPEN, opening)
    patch(Delete, vfs + X_DELETE, deleting)


def base_name(pointer):
    return os.path.basename(os.fsdecode(ctypes.string_at(pointer)))


def recorder(journal, operations):
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    numbers = itertools.count(1)

    def record(*entry):
        os.write(file, pickle.dumps(entry))
        if next(numbers) == operations:
            os.kill(os.getpid(), signal.SIGKILL)

    return record
