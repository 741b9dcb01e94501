"""Studies from Python: what the commands do, for scripts and notebooks.

::

    from ec_sweep import Study

    study = Study("cnn-filters")
    study.run(workers=2)
    study.results()

Progress and notes are printed as the commands print them where no terminal is; what they would
refuse is an `EcsweepError`. Tables come as data frames of pandas.
"""

import io
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ec_sweep import app, options, own_models, planning, running, spec, tables
from ec_sweep.errors import EcsweepError, interrupts_wait
from ec_sweep.frames import Sequences, as_fasta, of_cells, of_table
from ec_sweep.options import check_range
from ec_sweep.own_building import OwnFile
from ec_sweep.paths import write_atomically
from ec_sweep.planning import Place, Resolved
from ec_sweep.publishing import DEFAULT_FORMATS, FORMATS, Publisher
from ec_sweep.voice import Voice

if TYPE_CHECKING:
    import pandas as pd


class Study:
    """A study at one scale: its cells, its runs, and what they measured."""

    def __init__(
        self,
        study: str | Path | Mapping[str, Any],
        *,
        scale: Literal["demo", "paper"] = "demo",
        home: str | Path | None = None,
        storage: str | None = None,
        models: str | Path | None = None,
    ) -> None:
        """Take a study by its name, by the path of its YAML file, or as what such a file holds.

        Args:
            study: which one.
            scale: ``demo``, the sample that comes with ecsweep, or ``paper``, a dataset you built.
            home: the folder that holds mlruns/, data/ and reports/; by default ECSWEEP_HOME, else
                the current one.
            storage: SQLAlchemy URL of the ledger, instead of the home's; by default
                ECSWEEP_STORAGE.
            models: a Python file with models of your own, which is run where they are trained and
                used. It is read anew for every call.

        Raises:
            EcsweepError: there is no such study, or it says what it may not.
        """
        _check_one_of("scale", scale, spec.SCALES)
        self._scale = scale
        self._home = Path(home or options.environment_home()).absolute()  # os.chdir may follow
        self._storage = storage or os.environ.get("ECSWEEP_STORAGE")
        self._models = None if models is None else Path(models).absolute()
        self._aside: Path | None = None
        """Where a study given as a mapping is kept until it is run."""
        if isinstance(study, Mapping):
            self._study = self._written(study)
        elif not isinstance(study, str | Path):
            raise EcsweepError(f"a study is a name, a path or a mapping. Received: {study!r:.80}.")
        else:
            by_path = isinstance(study, Path) or planning.is_path(study)
            self._study = str(Path(study).absolute() if by_path else study)
        home_ = self._place()[0].home
        self.name = planning.name_of(home_, self._study)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, scale={self._scale!r}, home={str(self._home)!r})"

    def plan(
        self,
        *,
        seeds: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        defaults: bool = False,
    ) -> "pd.DataFrame":
        """Return the cells that `run` would train, a row each; nothing is written."""
        place, _ = self._place()
        asked = self._request(seeds, overrides, defaults)
        resolved = planning.resolve(place, self._study, asked, follow=not defaults)
        return of_cells(planning.status(place, resolved))

    def run(
        self,
        *,
        workers: int | None = None,
        executor: Literal["local", "inline", "ray"] = "local",
        seeds: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        defaults: bool = False,
        retry_failed: bool = False,
        save_models: Literal["best", "all", "none"] = "best",
        threads_per_worker: int | None = None,
        gpu_share: int | str = "auto",
        checkpoint_every: float | str = "5m",
        trial_timeout: float | str | None = None,
        silence: float | str = "30m",
        address: str | None = None,
        gpus_per_trial: float | None = None,
        memory_per_trial: int | str | None = None,
        artifacts: str | None = None,
        wait: bool = False,
    ) -> "pd.DataFrame":
        """Run what is not done, show progress, and return the cells with their states.

        The arguments are the options of ``ecsweep study``; ``overrides`` is its ``--set``: a
        value for each name, a list of values for an axis. A number is a time in seconds, or a size
        in bytes. Safe to repeat, interrupt and kill: the
        same call goes on.

        Raises:
            EcsweepError: it cannot be run, or another driver runs it.
            StudyStoppedError: one error came back in several cells.
            KeyboardInterrupt: it was stopped; what is done is kept.
        """
        _check_one_of("executor", executor, ("local", "inline", "ray"))
        _check_one_of("save_models", save_models, ("best", "all", "none"))
        _check_thread()
        asked = options.running_options(
            workers=workers, threads=threads_per_worker, gpu_share=gpu_share,
            executor=executor, address=address or os.environ.get("RAY_ADDRESS"),
            gpus=gpus_per_trial, memory=memory_per_trial,
            artifacts=artifacts or os.environ.get("ECSWEEP_ARTIFACTS"), retry_failed=retry_failed,
            checkpoint_every=checkpoint_every, timeout=trial_timeout, silence=silence,
            save_models=save_models, wait=Voice().say if wait else None,
        )  # fmt: skip
        place, _ = self._place()
        request = self._request(seeds, overrides, defaults)
        self._keep(place, request, follow=not defaults)
        (resolved,) = running.runnable(place, {self._study: request}, follow=not defaults)
        found = running.run(place, resolved, asked, Voice())
        if any(cell.state == "complete" for cell in found.cells):
            self._publisher(place, tables.FORMATS).table_of(self.name)
        return of_cells(found)

    def status(self) -> "pd.DataFrame":
        """Return the cells as last asked for, a row each with its state."""
        place, _ = self._place()
        return of_cells(planning.status(place, self._resolved(place)))

    def results(self) -> "pd.DataFrame":
        """Return what was measured, tidy: a row for each cell without its seed.

        Columns: the cell's hyperparameters, ``n`` (seeds), each metric, ``<metric>_ci95`` where
        there are several seeds, ``published_<metric>`` at paper scale, ``failure``.
        """
        place, _ = self._place()
        made = self._publisher(place, tables.FORMATS).report(self.name)
        return of_table(tables.tidy_csv(made))

    def table(self) -> "pd.DataFrame":
        """Return the study's table as the commands print it."""
        place, _ = self._place()
        return of_table(tables.plain_csv(self._publisher(place, tables.FORMATS).table(self.name)))

    def report(
        self, formats: Sequence[str] = DEFAULT_FORMATS, out: str | Path | None = None
    ) -> list[Path]:
        """Write tables and figures of what has run; returns the files.

        Formats are of csv, latex, markdown, svg, png, pdf and html.
        """
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or not formats or isinstance(formats, str):
            raise EcsweepError(
                f"formats must be a list of {', '.join(FORMATS)}. Received: {formats!r:.80}."
            )
        place, _ = self._place()
        return self._publisher(place, formats, Path(out) if out else None).study(self.name)

    def predict(
        self,
        sequences: Sequences,
        *,
        cell: str = "best",
        top: int | None = None,
        batch_size: int = 64,
    ) -> "pd.DataFrame":
        """Classify sequences with a model that the study has saved: a row for each, in order.

        Columns: id, predicted class, the probability of each class, and flags, as ``ecsweep
        predict --help`` says. TensorFlow is imported into this process.
        """
        from ec_sweep import choosing, predicting, saving, serving
        from ec_sweep import sequences as reading

        check_range("batch_size", batch_size, 65_536)
        check_range("top", top, 1_000_000)
        place, own = self._place()
        folder = choosing.of_study(place.home, self.name, self._scale, cell)
        about = saving.read_about(folder)
        out = io.BytesIO()
        with closing(as_fasta(sequences)) as stream:
            what = str(sequences) if isinstance(sequences, str | Path) else "sequences"
            entries: Iterator[reading.Entry] = reading.read(
                stream, what, about.hyperparameters.length
            )
            with interrupts_wait(), serving.held_back():
                classifier = serving.load(folder, own)
            predicting.classify(entries, classifier, out, batch_size=batch_size, top=top)
        classes = [f"class_{place}" for place in range(2, 1 + len(about.classes))]
        return of_table(
            out.getvalue().decode(),
            separator="\t",
            text_columns=("id", "predicted", "flags", *classes),
        )

    def forget(self, cell: str | None = None) -> int:
        """Forget results, so that their cells are trained anew; returns how many attempts.

        Nobody is asked: they are gone.
        """
        place, _ = self._place()
        resolved = self._resolved(place)
        if not app.attempts_at(place, resolved, cell):
            return 0
        return app.forget(place, resolved, cell)

    def cancel(self, timeout: float | str = "2m") -> bool:
        """Stop the driver that runs the study in another process of this machine, cleanly.

        Returns whether nothing runs it any more.
        """
        from ec_sweep import cancelling

        place, _ = self._place()
        patience = options.seconds("timeout", timeout)
        name = f"{self.name}@{self._scale}"
        end = cancelling.cancel(place, name, patience, print)
        return end is None or end.stopped

    def _place(self) -> tuple[Place, OwnFile | None]:
        """Return where the study's state is, and know the models of its own file."""
        found = options.place(self._home, self._storage)
        own_models.know(None)  # those of another study
        return found, options.know_models(self._models)

    def _request(
        self, seeds: int | None, overrides: Mapping[str, Any] | None, defaults: bool
    ) -> spec.Request:
        texts = [f"{name}={_as_json(name, value)}" for name, value in (overrides or {}).items()]
        return options.request(self._scale, seeds, texts, defaults)

    def _resolved(self, place: Place) -> Resolved:
        return planning.resolve(place, self._study, spec.Request(self._scale))

    def _publisher(
        self, place: Place, formats: Sequence[str], out: Path | None = None
    ) -> Publisher:
        return app.publisher(place, self._scale, formats, out, only=[self.name])

    def _written(self, mapping: Mapping[str, Any]) -> str:
        """Write a study given as a mapping to a file aside; returns its path."""
        import yaml

        class Plain(yaml.SafeDumper):
            def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's argument
                return True

        try:
            text = yaml.dump(dict(mapping), Dumper=Plain, sort_keys=False)
        except yaml.YAMLError as error:
            raise EcsweepError(f"Study(...): {str(error).splitlines()[0]}.") from None
        self._aside = Path(tempfile.mkdtemp(prefix="ecsweep-"))
        weakref.finalize(self, shutil.rmtree, self._aside, ignore_errors=True)
        file = self._aside / "study.yaml"
        file.write_text(text, encoding="utf-8")
        self._place()
        try:
            spec.load(file)
        except EcsweepError as error:
            raise EcsweepError(str(error).replace(str(file), "Study(...)")) from None
        return str(file)

    def _keep(self, place: Place, request: spec.Request, *, follow: bool) -> None:
        """Keep a study given as a mapping in the home, where commands find it by its name."""
        if self._aside is None:
            return
        planning.check_runnable(planning.resolve(place, self._study, request, follow=follow))
        place.home.prepare()
        file = place.home.sweeps / f"{self.name}.yaml"
        write_atomically(file, Path(self._study).read_bytes())
        self._study, self._aside = str(file), None


def _check_one_of(argument: str, value: str, allowed: Sequence[str]) -> None:
    """Raise an error when an argument is none of what is allowed."""
    if value not in allowed:
        raise EcsweepError(
            f"{argument} must be one of {', '.join(allowed)}. Received: {value!r:.80}."
        )


def _as_json(name: str, value: Any) -> str:
    """Return a value as ``--set`` takes it: ranges and NumPy's values, too."""

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else list(value)

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError):
        raise EcsweepError(
            f"overrides: {name} must be a number, a text, or a list of them. "
            f"Received: {value!r:.80}."
        ) from None


def _check_thread() -> None:
    """Raise an error where Ctrl-C cannot be heeded."""
    if threading.current_thread() is not threading.main_thread():
        raise EcsweepError("a study is run from the main thread, which Ctrl-C reaches.")
