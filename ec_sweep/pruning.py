"""Which cells are not worth their last epochs: validation loss compared, epoch by epoch."""

from collections.abc import Mapping

from ec_sweep.ledger import State


class Pruning:
    """Compares the validation losses of cells, epoch by epoch."""

    def __init__(self, kind: str, epochs: int) -> None:
        """Make a pruner, ``median`` or ``hyperband``, of cells that train so many epochs."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = optuna.storages.InMemoryStorage()
        # Hyperband draws a trial's bracket from this name and its number: as in every session.
        self._study = optuna.create_study(
            study_name="pruning", storage=self._storage, direction="minimize"
        )
        self._study_id = self._storage.get_study_id_from_name("pruning")
        self._pruner: optuna.pruners.BasePruner = (
            optuna.pruners.MedianPruner()
            if kind == "median"
            else optuna.pruners.HyperbandPruner(max_resource=epochs)
        )
        self._trials: dict[str, int] = {}

    def enter(self, name: str, state: State, losses: Mapping[int, float]) -> None:
        """Take in a cell and what earlier sessions know of it."""
        self._trial(name)
        for epoch in sorted(losses):  # Hyperband keeps which of its rungs a trial has reached
            self.prune(name, {e: loss for e, loss in losses.items() if e <= epoch})
        self.close(name, state, losses)

    def prune(self, name: str, losses: Mapping[int, float]) -> bool:
        """Say whether a cell with these losses so far should end."""
        trial = self._storage.get_trial(self._trial(name))
        trial.intermediate_values = dict(losses)
        return self._pruner.prune(self._study, trial)

    def close(self, name: str, state: State, losses: Mapping[int, float]) -> None:
        """Let the cells to come be compared with one that has ended by itself."""
        from optuna.trial import TrialState

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        trial_id = self._trial(name)
        if state not in states or not losses:
            return
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        for epoch, loss in losses.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, loss)
        last = losses[max(losses)]
        self._storage.set_trial_state_values(trial_id, states[state], [last])

    def _trial(self, name: str) -> int:
        from optuna import create_trial
        from optuna.trial import TrialState

        if name not in self._trials:
            self._trials[name] = self._storage.create_new_trial(
                self._study_id, create_trial(state=TrialState.RUNNING)
            )
        return self._trials[name]
