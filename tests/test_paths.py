"""Files and databases: whole or not at all, and never where locks are unsafe."""

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ec_sweep import paths
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every instant the old file or the new one, and no remains beside it."""
    path = tmp_path / "table.csv"
    paths.write_atomically(path, "old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            paths.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]
    paths.write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_database_cut_off_in_the_making_is_made_anew(tmp_path: Path) -> None:
    """What a killed process left aside is thrown away; a finished database is kept."""
    home = Home(tmp_path)
    home.prepare()

    def make(url: str) -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE t (x)")

    def die(url: str) -> None:
        make(url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paths.make_database(home.studies_db, die)
    assert not home.studies_db.exists()
    paths.make_database(home.studies_db, make)  # would fail on the table left aside
    assert home.studies_db.exists()
    paths.make_database(home.studies_db, die)  # is there: nothing is made


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason: its locks cannot be trusted there."""

    class Mount:
        def __init__(self, mountpoint: Path, fstype: str) -> None:
            self.mountpoint, self.fstype = str(mountpoint), fstype

    shared = tmp_path / "shared"
    mounts = [Mount(Path("/"), "ext4"), Mount(shared, "nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)  # noqa: A006, ARG005
    with pytest.raises(EcsweepError, match=r"network file system \(nfs4\)"):
        paths.check_sqlite(shared / "mlruns" / "studies.db")
    paths.check_sqlite(tmp_path / "studies.db")
    with pytest.raises(EcsweepError, match=r"network file system \(nfs4\)"):
        Home(shared).prepare()  # its locks lie there, wherever the databases are
    assert not shared.exists()
    assert paths.file_system(shared) == "nfs4"
    assert paths.file_system(tmp_path) == "ext4"


def test_a_full_disk_is_seen_through_the_errors_that_wrap_it() -> None:
    """Libraries wrap system errors; what is at the bottom counts."""
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "events.jsonl")
        except OSError as error:
            raise RuntimeError("cannot log") from error
    except RuntimeError as error:
        assert paths.no_room(error) == "events.jsonl: No space left on device"
    assert paths.no_room(sqlite3.OperationalError("database or disk is full"))
    assert paths.no_room(ValueError("something else")) is None


def test_looking_at_a_database_keeps_its_locks(tmp_path: Path) -> None:
    """Another process that comes and goes leaves the log that open connections write."""
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        paths.check_sqlite(path)
        visitor = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        visitor += "c.execute('SELECT * FROM t').fetchall(); c.close()"
        subprocess.run([sys.executable, "-c", visitor, str(path)], check=True)
        assert path.with_name("some.db-wal").exists()
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
