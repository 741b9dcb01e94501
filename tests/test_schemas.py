"""Databases of older and newer libraries: one clear line, a backup, a migration in one piece."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db import utils as mlflow_utils

from ec_sweep import doctor, schemas
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import open_tracker
from ec_sweep.ledger_store import find_ledger, open_ledger
from ec_sweep.mlflow_store import connect
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.tracking import Tracker
from tests.conftest import Ecsweep
from tests.test_study import Crash

LIBRARIES = [schemas.OPTUNA, schemas.MLFLOW]
NAME = "old@demo"


def sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
    return rows


def database(home: Home, library: schemas.Library) -> Path:
    return home.studies_db if library is schemas.OPTUNA else home.mlflow_db


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose databases have the schemas of earlier versions, with a run in it."""
    home = Home(tmp_path_factory.mktemp("older"))
    home.prepare()
    open_ledger(home, None, NAME)
    tracker = open_tracker(home, NAME)
    tracker.open_parent("kept")
    tracker.close_parent("FINISHED")
    sql(home.studies_db, "DROP INDEX IF EXISTS trials_study_id_key")
    sql(home.studies_db, "UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    url = f"sqlite:///{home.mlflow_db}"
    config = mlflow_utils._get_alembic_config(url)
    revisions = [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revisions[6])
    engine.dispose()
    return home.root


@pytest.fixture
def home(tmp_path: Path, older: Path) -> Home:
    shutil.copytree(older, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_the_installed_schema_is_read_from_the_migrations_as_their_library_does(
    library: schemas.Library,
) -> None:
    """Without loading them, which takes seconds."""
    folder = Path(schemas.find_spec(library.package).origin).parent / library.migrations  # type: ignore[union-attr,arg-type]
    script = ScriptDirectory(str(folder.parent))
    head, known = schemas.revisions(library)
    assert [head] == script.get_heads()
    assert known == {revision.revision for revision in script.walk_revisions()}


def test_older_databases_are_refused_before_anything_touches_them(
    home: Home, ecsweep: Ecsweep
) -> None:
    """With the command to run: MLflow would migrate them in place, without a backup."""
    whole = "SELECT sql, (SELECT version_num FROM alembic_version) FROM sqlite_master"
    before = {path: sql(path, whole) for path in (home.studies_db, home.mlflow_db)}
    for opens in (
        lambda: connect(home),
        lambda: find_ledger(home, None, NAME),
        lambda: open_ledger(home, None, NAME),
    ):
        with pytest.raises(EcsweepError, match=r"an older .+ doctor --fix"):
            opens()
    said = ecsweep.fails("status", "tiny", "--home", str(home.root))
    assert "ecsweep doctor --fix" in said
    assert {path: sql(path, whole) for path in before} == before


def test_older_databases_are_migrated_after_a_backup(home: Home) -> None:
    """The backup is private, and the data is the same in the new schema."""
    revisions = {library: schemas.revision_of(database(home, library)) for library in LIBRARIES}
    assert [f.kind for f in doctor.examine(Place(home)).findings] == ["schema-older"] * 2
    assert doctor.examine(Place(home), fix=True).healthy
    assert doctor.examine(Place(home)).findings == []
    for library in LIBRARIES:
        path = database(home, library)
        assert schemas.revision_of(path) == schemas.revisions(library)[0]
        (backup,) = path.parent.glob(f"{path.name}.*.backup")
        assert schemas.revision_of(backup) == revisions[library]
        assert backup.stat().st_mode & 0o777 == 0o600
    assert find_ledger(home, None, NAME)
    found = connect(home).get_experiment_by_name(NAME)
    assert found
    assert Tracker(connect(home), found.experiment_id, NAME).parent_id()


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_a_migration_that_is_killed_leaves_the_old_database(
    home: Home, library: schemas.Library, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the backup is in place, and before the migrated copy is."""
    path = database(home, library)
    revision = schemas.revision_of(path)
    original, count = os.replace, 0

    def crashing(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise Crash
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crashing)
        with pytest.raises(Crash):
            schemas.migrate(path, library, home.work)
    assert schemas.revision_of(path) == revision
    schemas.migrate(path, library, home.work)
    assert schemas.revision_of(path) == schemas.revisions(library)[0]


def test_a_database_in_use_is_not_migrated(home: Home) -> None:
    """Another process' log would be played into the new file."""
    with closing(sqlite3.connect(home.studies_db)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM studies").fetchall()
        with pytest.raises(EcsweepError, match="in use"):
            schemas.migrate(home.studies_db, schemas.OPTUNA, home.work)
    assert schemas.revision_of(home.studies_db) == "v3.0.0.d"


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_newer_databases_are_refused_with_what_to_install(
    home: Home, library: schemas.Library
) -> None:
    """Doctor cannot help there either, and changes nothing."""
    path = database(home, library)
    sql(path, "UPDATE alembic_version SET version_num = 'of tomorrow'")
    with pytest.raises(EcsweepError, match=f"newer .+ pip install --upgrade {library.package}"):
        schemas.check_file(path, library)
    found = {f.kind: f for f in doctor.examine(Place(home), fix=True).findings}
    assert not found["schema-newer"].fixed
    assert "pip install" in found["schema-newer"].remedy
    assert sql(path, "SELECT * FROM alembic_version") == [("of tomorrow",)]


def test_a_database_that_is_not_the_homes_is_refused_with_its_own_command(home: Home) -> None:
    """A server's is its administrator's; passwords are never shown."""
    url = f"sqlite:///{home.mlflow_db}"
    with pytest.raises(EcsweepError, match="mlflow db upgrade 'sqlite:///"):
        schemas.check_server(url, schemas.MLFLOW)
    with pytest.raises(EcsweepError, match="optuna storage upgrade --storage 'sqlite:///"):
        schemas.check_server(f"sqlite:///{home.studies_db}", schemas.OPTUNA)
    empty = f"sqlite:///{home.root / 'empty.db'}"
    schemas.check_server(empty, schemas.MLFLOW)
    assert optuna.storages.RDBStorage(empty)
    schemas.check_server(empty, schemas.OPTUNA)
