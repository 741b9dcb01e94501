"""The paper's conclusions against its own tables, and against hand-made runs."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from ec_sweep import claims, evidence
from ec_sweep.claims import Verdict
from ec_sweep.report import Report, Row

ACCURACIES = {"cnn": 0.80, "complex-cnn": 0.81, "lstm": 0.84, "gru": 0.70}
TIMES = ("epoch_seconds_median", "test_seconds_batch1")


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def row(params: dict[str, Any], *accuracies: float, **more: float) -> Row:
    """A row with one accuracy a seed; other metrics are the same in all."""
    params = {"dataset": "enzyme", "split": "random", **params}
    if not accuracies:
        return Row(params, 0, failure="oom: too large")
    by_seed = {n: {"test_accuracy": value, **more} for n, value in enumerate(accuracies)}
    mean = sum(accuracies) / len(accuracies)
    return Row(params, len(by_seed), {"test_accuracy": mean, **more}, by_seed=by_seed)


def made(study: str, rows: list[Row], **more: Any) -> dict[str, Report]:
    return {study: Report(study, "demo", "", None, [], "", rows, {}, **more)}


def verdict(found: list[Verdict], claim: str) -> Verdict:
    [wanted] = [one for one in found if one.claim == claim]
    return wanted


def of_runs(claim: str, *reports: dict[str, Report]) -> Verdict:
    return verdict(claims.from_runs({n: r for one in reports for n, r in one.items()}), claim)


def single(study: str = "single-enzyme", **accuracies: tuple[float, ...]) -> dict[str, Report]:
    """Runs of the four single models; ``complex_cnn`` stands for ``complex-cnn``."""
    given = {name.replace("_", "-"): values for name, values in accuracies.items()}
    values = {name: given.get(name, (value,)) for name, value in ACCURACIES.items()}
    rows = [row({"model": m, "hidden": [8]}, *v, test_loss=0.5) for m, v in values.items()]
    return made(study, rows)


def timed(**seconds: float) -> dict[str, Report]:
    rows = [
        row({"model": m}, 0.8, epoch_seconds_median=seconds[m.replace("-", "_")])
        for m in ACCURACIES
    ]
    return made("single-enzyme", rows)


def by_size(study: str, accuracies: dict[tuple[int, float], float]) -> dict[str, Report]:
    rows = [
        row({"filter_size": size, "learning_rate": rate}, value, test_loss=size / 10)
        for (size, rate), value in accuracies.items()
    ]
    return made(study, rows)


def recurrent(accuracies: dict[tuple[str, int, int], float | None]) -> dict[str, Report]:
    rows = [
        row({"model": m, "units": u, "depth": d, "hidden": [8]}, *([] if v is None else [v]))
        for (m, u, d), v in accuracies.items()
    ]
    return made("rnn-units", rows)


def steady(*seeds: dict[str, float], failure: str = "") -> dict[str, Report]:
    """Four cells of small rates; the one of size 3 at 1e-6 has these runs."""
    mean = {name: sum(run[name] for run in seeds) / len(seeds) for name in (seeds or [{}])[0]}
    given = Row(
        {"dataset": "enzyme", "split": "random", "filter_size": 3, "learning_rate": 1e-6},
        len(seeds),
        mean,
        failure=failure,
        by_seed=dict(enumerate(seeds)),
    )
    rows = [
        row({"filter_size": size, "learning_rate": rate}, 0.77, test_accuracy_best=0.77)
        for size, rate in ((2, 1e-5), (2, 1e-6), (3, 1e-5))
    ]
    return made("cnn-small-lr", [*rows, given])


def parameters(**counts: float) -> list[dict[str, Report]]:
    """Single and combined models on both datasets, with 100 parameters or as given."""
    given = {name.replace("_", "-"): count for name, count in counts.items()}
    return [
        made(
            f"{study}-{dataset}",
            [
                row({"model": m, "dataset": dataset}, 0.8, parameters=given.get(m, 100.0))
                for m in models
            ],
        )
        for dataset in ("enzyme", "ec37")
        for study, models in (("single", ("cnn",)), ("combined", ("cnn-lstm", "cnn-gru")))
    ]


def combined(gru: float, gru_seconds: float = 48.0, enzyme_lstm: float = 0.8) -> dict[str, Report]:
    """CNN-LSTM at 0.8 in 50 s, and CNN-GRU as given, on both datasets."""
    reports = {}
    for dataset, lstm in (("enzyme", enzyme_lstm), ("ec37", 0.8)):
        times = dict.fromkeys(TIMES, gru_seconds)
        rows = [
            row({"model": "cnn-lstm", "dataset": dataset}, lstm, **dict.fromkeys(TIMES, 50.0)),
            row({"model": "cnn-gru", "dataset": dataset}, gru, **times),
        ]
        reports |= made(f"combined-{dataset}", rows)
    return reports


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("5a", "lstm 0.8258 <= cnn 0.8263"),
        ("4a", "filter_sizes=3-4-5 0.8307 <= learning_rate=0.001 filter_sizes=4-8-16 0.8327"),
        ("1d", "lstm units=50 depth=1 0.8214 <= lstm units=50 depth=3 0.8341"),
        ("1d", "lstm units=80 depth=1 0.8205 <= lstm units=80 depth=2 0.8309"),
        ("2a", "filter_size=7 learning_rate=0.01 0.8129 <= filter_size=7 learning_rate=0.001"),
        ("2a", "filter_size=8 learning_rate=0.01 0.8157 <= filter_size=8 learning_rate=0.001"),
        ("5f", "level 0.824 + 0.0005 <= lstm 0.8258"),
        ("5f", "complex-cnn 0.8202 + 0.0005 <= level 0.823"),
        ("7d", "level 0.015 + 0.005 <= dataset=enzyme cnn-lstm less dataset=enzyme cnn-gru 0.0203"),
        ("7d", "level 0.005 + 0.005 <= dataset=ec37 cnn-gru less dataset=ec37 cnn-lstm 0.0483"),
        ("8a", "lstm units=20 depth=4 0.6225 <= gru units=20 depth=4 0.6797"),
        ("T1", "3.8 in train_1: 214 drawn, 267.7 expected, z -3.34"),
    ],
)
def test_what_the_paper_prints_against_itself(claim: str, told: str) -> None:
    """Conclusions that the printed tables contradict do not hold, and the numbers say where."""
    found = verdict(claims.from_print(), claim)
    assert found.holds is False
    assert told in found.numbers


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        (
            "2f",
            "filter_size=7 learning_rate=0.001 0.8171 > mean of sizes 2-6-8 at their best rates",
        ),
        ("4d", "level 0.79 + 0.01 > filter_sizes=4-8-16 learning_rate=0.0001 0.7971"),
        ("6d", "level 0.91 + 0.01 > lstm 0.9166"),
        ("6d", "level 0.9 + 0.01 > complex-cnn 0.9079"),
    ],
)
def test_what_the_paper_prints_for_itself(claim: str, told: str) -> None:
    """Conclusions that the printed tables hold name the numbers that hold them."""
    found = verdict(claims.from_print(), claim)
    assert found.holds is True
    assert told in found.numbers


def test_all_printed_verdicts() -> None:
    """Every conclusion has its verdict; none of the printed single runs gives confidence."""
    found = claims.from_print()
    holds = {one.claim: one.holds for one in found}
    assert {claim for claim, one in holds.items() if one is None} == {
        "3a", "3b", "3c", "8e",
    }  # fmt: skip
    assert {claim for claim, one in holds.items() if one is False} == {
        "T1", "1d", "2a", "2d", "4a", "5a", "5f", "7d", "8a", "8b", "8d",
    }  # fmt: skip
    assert {claim[0] for claim in holds} == {"T", *"12345678"}
    assert len(holds) == len(found)
    assert all(one.confidence is None and one.text and one.numbers for one in found)
    assert "not printed" in verdict(found, "3a").numbers
    assert "no parameters of dataset=enzyme cnn-lstm (not printed)" in verdict(found, "8e").numbers
    assert [one.claim for one in claims.from_runs({})] == list(holds)


def test_the_cell_that_is_not_available_delays_nothing() -> None:
    """Table 2 is judged without GRU 20x5, and says so; any other missing cell is waited for."""
    assert "left out, without a result: gru units=20 depth=5" in (
        verdict(claims.from_print(), "1c").numbers
    )
    cells: dict[tuple[str, int, int], float | None] = {
        ("gru", 20, 2): 0.8, ("gru", 20, 3): 0.7, ("gru", 20, 5): None,
    }  # fmt: skip
    assert of_runs("1c", recurrent(cells)).holds is True
    missing = of_runs("1c", recurrent({**cells, ("gru", 20, 3): None}))
    assert missing.holds is None
    assert "gru" in missing.numbers
    assert "depth=3 (oom: too large)" in missing.numbers
    measured = of_runs("1c", recurrent({**cells, ("gru", 20, 5): 0.9}))
    assert measured.holds is False
    assert "left out" not in measured.numbers


def test_units_and_depth_are_judged_by_their_ends() -> None:
    """The axes are read off the rows, whatever values they have."""
    cells: dict[tuple[str, int, int], float | None] = {
        ("lstm", 4, 1): 0.7, ("lstm", 4, 2): 0.6, ("lstm", 8, 1): 0.8, ("lstm", 8, 2): 0.75,
    }  # fmt: skip
    assert of_runs("1a", recurrent(cells)).holds is True
    assert of_runs("1d", recurrent(cells)).holds is True
    assert of_runs("1a", recurrent({**cells, ("lstm", 8, 2): 0.55})).holds is False
    assert of_runs("1d", recurrent({**cells, ("lstm", 8, 2): 0.85})).holds is False
    lonely = of_runs("1a", recurrent({("lstm", 4, 1): 0.7}))
    assert (lonely.holds, "nothing to compare" in lonely.numbers) == (None, True)


@pytest.mark.parametrize(
    ("claim", "lstm", "holds"),
    [("5a", 0.84, True), ("5a", 0.805, False), ("5a", 0.81, False), ("5e", 0.84, True),
     ("5e", 0.69, False)],
)  # fmt: skip
def test_order_of_single_models(claim: str, lstm: float, holds: bool) -> None:
    """Turning the numbers turns the verdict; a tie is no lead."""
    assert of_runs(claim, single(lstm=(lstm,))).holds is holds


def test_dataset_2_is_not_dataset_1() -> None:
    """Claims on dataset 2 read its study alone."""
    both = (single(lstm=(0.5,)), single("single-ec37"))
    assert of_runs("5a", *both).holds is False
    assert of_runs("6a", *both).holds is True
    assert of_runs("6a", single()).numbers == "single-ec37 (not run): no rows"


def test_alike_at_a_far_lower_loss() -> None:
    """Within a point in accuracy, and a tenth of the loss gone."""

    def models(accuracy: float, loss: float) -> dict[str, Report]:
        values = dict.fromkeys(ACCURACIES, (0.8, 0.5)) | {"lstm": (accuracy, loss)}
        rows = [row({"model": m}, a, test_loss=b) for m, (a, b) in values.items()]
        return made("single-enzyme", rows)

    cases = {(0.805, 0.44): True, (0.795, 0.44): True, (0.82, 0.44): False, (0.8, 0.46): False}
    assert {case: of_runs("5b", models(*case)).holds for case in cases} == cases


def test_as_good_and_faster_on_dataset_2() -> None:
    """The complex CNN has to beat both recurrent models in both times."""

    def models(complex_cnn: float, gru_prediction: float) -> dict[str, Report]:
        values = {"cnn": 0.8, "complex-cnn": complex_cnn, "lstm": 0.8, "gru": 0.7}
        seconds = {"cnn": 1.0, "complex-cnn": 2.0, "lstm": 5.0, "gru": 4.0}
        rows = [
            row(
                {"model": m},
                value,
                epoch_seconds_median=seconds[m],
                test_seconds_batch1=gru_prediction if m == "gru" else seconds[m],
            )
            for m, value in values.items()
        ]
        return made("single-ec37", rows)

    cases = {(0.795, 4.0): True, (0.78, 4.0): False, (0.795, 1.5): False}
    assert {case: of_runs("6c", models(*case)).holds for case in cases} == cases
    assert of_runs("6b", models(0.8, 4.0)).holds is True
    assert of_runs("6b", models(0.8, 6.0)).holds is False


@pytest.mark.parametrize(
    ("slow", "holds"), [(20.0, True), (29.0, True), (31.0, False), (13.0, False)]
)
def test_about_twice_as_slow(slow: float, holds: bool) -> None:
    """A factor of 1.5 either way passes as about."""
    seconds = timed(cnn=8.0, complex_cnn=12.0, lstm=slow + 1, gru=slow - 1)
    assert of_runs("5c", seconds).holds is holds


def test_times_that_were_not_measured_decide_nothing() -> None:
    """Runs that shared the machine have no times; the reason names the first."""
    found = of_runs("5c", single())
    assert found.holds is None
    assert "no epoch_seconds_median of cnn" in found.numbers


def test_learning_rates_that_were_not_run_decide_nothing() -> None:
    """A conclusion on 0.01 or 1e-5 is not carried over to other rates."""
    rates = by_size("cnn-filters", {(size, 0.003): 0.8 for size in range(2, 10)})
    assert of_runs("2a", rates).numbers == "no 0.01 among 0.003"
    assert of_runs("2b", rates).holds is True
    demo = by_size("cnn-small-lr", {(2, 5e-5): 0.77, (2, 2e-5): 0.77})
    assert of_runs("3a", demo).holds is None
    assert of_runs("3b", demo).numbers == "no 0.00001 among 0.00002, 0.00005"


def test_filter_sizes() -> None:
    """Rate, halves, odd sizes and the average each have their own rule."""
    sizes = range(2, 10)
    better = {(n, rate): 0.7 + n / 100 + rate for n in sizes for rate in (0.01, 0.001)}
    rising = by_size("cnn-filters", better)
    falling = by_size("cnn-filters", {cell: 1.5 - value for cell, value in better.items()})
    expected = {"2a": (True, False), "2c": (True, False), "2d": (False, True), "2e": (True, False)}
    for claim, (up, down) in expected.items():
        assert of_runs(claim, rising).holds is up, claim
        assert of_runs(claim, falling).holds is down, claim
    hole = by_size("cnn-filters", {cell: v for cell, v in better.items() if cell != (4, 0.01)})
    assert "0 rows of" in of_runs("2d", hole).numbers


def test_small_rates_level_and_spread() -> None:
    """77 % within a point, and all sizes within a tenth of a point of each other."""
    flat = {(n, rate): 0.7705 for n in (2, 3) for rate in (1e-5, 1e-6)}
    expected = {0.7709: (True, True), 0.775: (False, True), 0.81: (False, False)}
    for value, holds in expected.items():
        found = by_size("cnn-small-lr", {**flat, (3, 1e-6): value})
        assert (of_runs("3a", found).holds, of_runs("3b", found).holds) == holds


def test_a_level_pairs_with_every_seed() -> None:
    """A constant has no seeds of its own, so that several seeds of the runs give confidence."""

    def at(*accuracies: float) -> Verdict:
        cells = [
            row({"filter_size": 2, "learning_rate": rate}, *accuracies) for rate in (1e-5, 1e-6)
        ]
        return of_runs("3b", made("cnn-small-lr", cells))

    near, far = at(0.769, 0.770, 0.771, 0.7705), at(0.80, 0.81, 0.805, 0.80)
    assert (near.holds, far.holds) == (True, False)
    assert near.confidence is not None
    assert near.confidence > 0.95
    assert far.confidence is not None
    assert far.confidence > 0.95
    assert at(0.77).confidence is None


def test_good_filter_sizes() -> None:
    """Each of the five is above the mean of the rest, all at the rate that suits them best."""
    cells = {(n, rate): 0.7 + n / 1000 for n in range(2, 10) for rate in (0.01, 0.001)}
    better = cells | {(n, 0.001): 0.8 for n in (3, 4, 5, 7, 9)}
    assert of_runs("2f", by_size("cnn-filters", better)).holds is True
    worst = of_runs("2f", by_size("cnn-filters", better | {(4, 0.001): 0.6}))
    assert worst.holds is False
    assert "filter_size=4 learning_rate=0.01 0.704 <= mean of sizes 2-6-8" in worst.numbers
    high = better | dict.fromkeys([(2, 0.01), (6, 0.001), (8, 0.01)], 0.81)
    assert of_runs("2f", by_size("cnn-filters", high)).holds is False
    some = {cell: value for cell, value in better.items() if cell[0] != 7}
    assert of_runs("2f", by_size("cnn-filters", some)).numbers.startswith("no 7 among 2, 3, 4")
    alone = {cell: value for cell, value in better.items() if cell[0] in (3, 4, 5, 7, 9)}
    assert "nothing to compare" in of_runs("2f", by_size("cnn-filters", alone)).numbers


def test_training_is_stable_or_not() -> None:
    """Every run counts by itself: neither a mean nor other seeds make up for one."""
    calm = {"test_accuracy": 0.77, "test_accuracy_best": 0.775}
    fell, rose = ({"test_accuracy": 0.77 + gap, "test_accuracy_best": 0.77} for gap in (-0.1, 0.1))
    found = of_runs("3c", steady(calm, calm))
    assert (found.holds, found.confidence) == (True, None)
    assert "filter_size=3 learning_rate=0.000001: last epoch within 0.01 of the best in 2 of 2" in (
        found.numbers
    )
    slipped = {"test_accuracy": 0.755, "test_accuracy_best": 0.77}
    assert of_runs("3c", steady(calm, calm, calm, slipped)).holds is False
    assert of_runs("3c", steady(fell, rose)).holds is False
    edge = {"test_accuracy": 0.81, "test_accuracy_best": 0.82}  # binary noise: 0.00999...
    assert of_runs("3c", steady(edge)).holds is False


def test_a_run_that_diverged_was_not_stable() -> None:
    """One seed is enough; a run that is missing for another reason is waited for."""
    calm = {"test_accuracy": 0.77, "test_accuracy_best": 0.77}
    blown = "diverged: loss is nan in epoch 2"
    for found in (steady(failure=blown), steady(calm, failure=f"oom: too large; {blown}")):
        assert of_runs("3c", found).holds is False
        assert blown in of_runs("3c", found).numbers
    waiting = of_runs("3c", steady(failure="not run yet"))
    assert (waiting.holds, "(not run yet)" in waiting.numbers) == (None, True)
    assert of_runs("3c", steady({"test_accuracy": 0.77})).holds is None
    other = by_size("cnn-small-lr", {(2, 5e-5): 0.77})
    assert of_runs("3c", other).numbers == (
        "cnn-small-lr: 0 rows of filter_size=2 learning_rate=0.00001, not one"
    )


@pytest.mark.parametrize(
    ("claim", "study", "near", "far"),
    [("5f", "single-enzyme", 0.8243, 0.8246), ("5f", "single-enzyme", 0.8237, 0.8234),
     ("6d", "single-ec37", 0.919, 0.921), ("6d", "single-ec37", 0.901, 0.899)],
)  # fmt: skip
def test_levels_of_single_models(claim: str, study: str, near: float, far: float) -> None:
    """The text's levels count on either side, for both models."""
    other = (0.823,) if claim == "5f" else (0.9,)
    for lstm, holds in ((near, True), (far, False)):
        assert of_runs(claim, single(study, lstm=(lstm,), complex_cnn=other)).holds is holds
    assert of_runs(claim, single(study, lstm=(near,), complex_cnn=(0.5,))).holds is False


def test_levels_of_three_sizes() -> None:
    """(4,8,16) has a level at each rate, all of which are needed."""
    levels = {0.01: 0.80, 0.001: 0.83, 0.0001: 0.79}

    def at(accuracies: dict[float, float]) -> bool | None:
        rows = [
            row({"filter_sizes": [4, 8, 16], "learning_rate": rate}, value)
            for rate, value in accuracies.items()
        ]
        return of_runs("4d", made("complex-cnn-filters", rows)).holds

    assert at({rate: value + 0.009 for rate, value in levels.items()}) is True
    for rate, value in levels.items():
        assert at({**levels, rate: value + 0.011}) is False
        assert at({**levels, rate: value - 0.011}) is False
        assert at({other: level for other, level in levels.items() if other != rate}) is None


def test_leads_of_cnn_lstm() -> None:
    """Both leads on both datasets are near what the text says: larger ones miss it too."""

    def models(accuracy: float, loss: float) -> dict[str, Report]:
        found = {}
        for dataset, lead, lower in (("enzyme", 0.015, 0.005), ("ec37", accuracy, loss)):
            rows = [
                row({"model": "cnn-lstm", "dataset": dataset}, 0.8, test_loss=0.5),
                row({"model": "cnn-gru", "dataset": dataset}, 0.8 - lead, test_loss=0.5 + lower),
            ]
            found |= made(f"combined-{dataset}", rows)
        return found

    cases = {
        (0.011, 0.001): True, (0.019, 0.009): True, (0.021, 0.005): False, (0.009, 0.005): False,
        (0.015, 0.011): False, (0.015, -0.001): False,
    }  # fmt: skip
    assert {case: of_runs("7d", models(*case)).holds for case in cases} == cases
    for claim, accuracy, loss in (("8c", 0.01, 0.1), ("8c", -0.01, 0.1), ("8c", 0.01, -0.1)):
        assert of_runs(claim, models(accuracy, loss)).holds is (min(accuracy, loss) > 0)


def test_a_cnn_in_front_cuts_the_first_dense_layer() -> None:
    """Both combined models have fewer parameters than the single CNN, on both datasets."""
    assert of_runs("8e", *parameters(cnn=101.0)).holds is True
    assert of_runs("8e", *parameters(cnn=100.0)).holds is False
    assert of_runs("8e", *parameters(cnn=101.0, cnn_gru=102.0)).holds is False
    half = [report for report in parameters(cnn=101.0) if "combined-ec37" not in report]
    assert of_runs("8e", *half).holds is None
    mixed = parameters(cnn=101.0)[:2] + parameters(cnn=99.0)[2:]
    assert of_runs("8e", *mixed).holds is False


def test_three_sizes_side_by_side() -> None:
    """Lists of sizes are told apart; the exception at 0.001 is part of the claim."""

    def table(loss_at_exception: float) -> dict[str, Report]:
        loss = {"345": 0.5, "359": 0.6, "4816": 0.7}
        sizes = {"345": [3, 4, 5], "359": [3, 5, 9], "4816": [4, 8, 16]}
        rows = [
            row(
                {"filter_sizes": sizes[n], "learning_rate": rate},
                1 - loss[n],
                test_loss=loss_at_exception if (n, rate) == ("359", 0.001) else loss[n],
            )
            for n in sizes
            for rate in (0.001, 0.02)
        ]
        return made("complex-cnn-filters", rows)

    assert of_runs("4b", table(0.45)).holds is True
    assert of_runs("4b", table(0.55)).holds is False
    assert of_runs("4a", table(0.45)).holds is True
    assert of_runs("4c", table(0.45)).holds is False


def test_combined_models() -> None:
    """Both datasets count; slightly faster is neither slower nor much faster."""
    assert of_runs("7a", combined(0.7)).holds is True
    assert of_runs("7a", combined(0.7, enzyme_lstm=0.6)).holds is False
    held = {s: of_runs("7c", combined(0.7, s)).holds for s in (51.0, 48.0, 40.0)}
    assert held == {51.0: False, 48.0: True, 40.0: False}
    half = {"combined-enzyme": combined(0.7)["combined-enzyme"]}
    assert of_runs("7a", half).holds is None
    assert "combined-ec37 (not run)" in of_runs("7a", half).numbers


def test_what_a_cnn_in_front_costs() -> None:
    """Less than a point lost to the plain model is information kept."""
    for lstm, holds in ((0.805, True), (0.815, False)):
        plain = [single(s, lstm=(lstm,), gru=(0.7,)) for s in ("single-enzyme", "single-ec37")]
        assert of_runs("8d", combined(0.7), *plain).holds is holds
    kept, lost = single(lstm=(0.8,), gru=(0.7,)), single("single-ec37", gru=(0.7,))
    assert of_runs("8d", combined(0.7), kept, lost).holds is False


def test_confidence_grows_with_separation() -> None:
    """Clear leads earn more confidence than narrow ones; one seed, or no spread, earns none."""
    others = {"cnn": (0.80, 0.81, 0.79), "complex_cnn": (0.8, 0.79, 0.81), "gru": (0.7, 0.69, 0.71)}
    clear = of_runs("5a", single(lstm=(0.95, 0.93, 0.94), **others))
    narrow = of_runs("5a", single(lstm=(0.81, 0.82, 0.82), **others))
    assert clear.holds is narrow.holds is True
    assert clear.confidence is not None
    assert narrow.confidence is not None
    assert 0 <= narrow.confidence < 0.95 < clear.confidence <= 1
    assert of_runs("5a", single()).confidence is None
    same = {name: (v, v) for name, v in (("cnn", 0.8), ("complex_cnn", 0.8), ("gru", 0.7))}
    constant = of_runs("5a", single(lstm=(0.9, 0.9), **same))
    assert (constant.holds, constant.confidence) == (True, None)


def test_confidence_is_in_the_verdict() -> None:
    """A clear reversal is a confident no; with one comparison each p-value is a t-test's."""
    others = {"cnn": (0.80, 0.81, 0.79), "complex_cnn": (0.8, 0.79, 0.81), "gru": (0.7, 0.69, 0.71)}
    reversed_ = of_runs("5a", single(lstm=(0.5, 0.52, 0.51), **others))
    assert reversed_.holds is False
    assert reversed_.confidence is not None
    assert reversed_.confidence > 0.95
    cells = [
        row({"model": "lstm", "units": 4, "depth": 1}, 0.7, 0.6),
        row({"model": "lstm", "units": 8, "depth": 1}, 0.8, 0.9),
    ]
    # Differences 0.1 and 0.3: t = 0.2 / 0.1 = 2 with 1 degree of freedom, p = 1/2 - atan(2) / pi.
    assert of_runs("1a", made("rnn-units", cells)).confidence == pytest.approx(0.852416, abs=1e-6)


@pytest.mark.parametrize(("few", "many"), [((0.7, 0.6), (0.8, 0.9)), ((0.8, 0.9), (0.7, 0.6))])
def test_bonferroni_pays_for_every_comparison(
    few: tuple[float, ...], many: tuple[float, ...]
) -> None:
    """Two comparisons with p-values of 0.1476 leave 1 less their sum, whichever way they fall."""
    cells = [
        row({"model": "lstm", "units": units, "depth": depth}, *values)
        for depth in (1, 2)
        for units, values in ((4, few), (8, many))
    ]
    found = of_runs("1a", made("rnn-units", cells))
    assert found.holds is (many > few)
    assert found.confidence == pytest.approx(1 - 2 * (1 - 0.852416), abs=1e-6)


def test_only_common_seeds_are_paired() -> None:
    """A seed that one side lacks is no pair; one pair is no test."""
    cells = [
        row({"model": "lstm", "units": 4, "depth": 1}, 0.7),
        row({"model": "lstm", "units": 8, "depth": 1}, 0.8, 0.9),
    ]
    assert of_runs("1a", made("rnn-units", cells)).confidence is None


def card(**changes: Any) -> dict[str, Any]:
    parts = {"a": 3000, "b": 300}
    base = {
        "all_counts": {"a": 50_000, "b": 5_000, "rare": 3},
        "classes_left_out": {"rare": 3},
        "samples": [{"a": 6000, "b": 600}, {"a": 6010, "b": 590}],
        "class_counts": {"train": {"a": 6000, "b": 600}, "valid": parts, "test": parts},
        "drawing": {"samples": 2},
    }
    return {**base, **changes}


def test_shares_of_a_dataset_card() -> None:
    """A sample off its share is named; classes left out are in no count."""
    assert of_runs("T1", made("s", [], cards={("ec37", "random"): card()})).holds is True
    skewed = card(samples=[{"a": 6000, "b": 600}, {"a": 5600, "b": 1000}])
    found = of_runs("T1", made("s", [], cards={("ec37", "random"): skewed}))
    assert found.holds is False
    assert "b in train_2: 1000 drawn, 600.0 expected" in found.numbers
    assert "train_1" not in found.numbers
    assert "2 classes x 4 columns" in found.numbers


def test_nothing_drawn_leaves_shares_undecided() -> None:
    """Parts that were not drawn from, or no card at all, are no samples."""
    assert (
        of_runs("T1", made("s", [], cards={("ec37", "random"): card(drawing=None)})).holds is None
    )
    assert of_runs("T1").holds is None


def test_classes_are_those_of_the_papers_study() -> None:
    """Its card is taken wherever it stands; else the first study's that has one."""
    fair, skewed = card(), card(samples=[{"a": 5600, "b": 1000}])
    first = made("baselines", [], cards={("enzyme", "random"): {}, ("ec37", "random"): skewed})
    second = made("combined-ec37", [], cards={("ec37", "random"): fair})
    own = made("single-ec37", [], cards={("ec37", "random"): fair})
    assert evidence.class_card(first | second | own) == ("single-ec37", fair)
    assert of_runs("T1", first, second, own).holds is True
    assert evidence.class_card(first | second) == ("baselines", skewed)
    assert of_runs("T1", first, second).holds is False
    bare = made("single-ec37", [], cards={("enzyme", "random"): {}})
    assert evidence.class_card(bare | second) == ("combined-ec37", fair)
    assert evidence.class_card(bare) is None


def test_outliers_are_corrected_for_how_many_there_could_be() -> None:
    """What stands out of two counts is no surprise among many."""
    counts, column = {"a": 9_000, "b": 1_000}, {"a": 875, "b": 125}
    [a, b] = claims.share_outliers(counts, {"x": column})
    assert (b.column, b.name, b.count, b.expected) == ("x", "b", 125, 100)
    # Hypergeometric: variance 1000 * 0.1 * 0.9 * 9000 / 9999.
    assert b.z == pytest.approx(25 / 9.0005, rel=1e-3)
    assert a.z == -b.z
    assert b.p < 0.05 / 2
    fair = {"a": 900, "b": 100}
    assert claims.share_outliers(counts, {"x": column, **dict.fromkeys("klmnop", fair)}) == []


def test_two_rows_where_one_is_needed_decide_nothing() -> None:
    """No row is preferred to another that fits as well."""
    rows = [*single()["single-enzyme"].rows, row({"model": "lstm"}, 0.9)]
    found = of_runs("5a", made("single-enzyme", rows))
    assert (found.holds, found.numbers) == (None, "single-enzyme: 2 rows of lstm, not one")


def split_runs(split: str, **accuracies: float) -> dict[str, Report]:
    """Runs of the single models on one split."""
    given = ACCURACIES | accuracies
    rows = [row({"model": m, "split": split}, a, test_loss=0.5) for m, a in given.items()]
    return made("single-enzyme", rows)


def test_conclusions_are_judged_on_one_split() -> None:
    """On the paper's, where it was run; runs on another split neither help nor hurt."""
    random, cluster = split_runs("random"), split_runs("cluster", lstm=0.1)
    assert of_runs("5a", random).holds is True
    assert of_runs("5a", cluster).holds is False
    both = made("single-enzyme", [*cluster["single-enzyme"].rows, *random["single-enzyme"].rows])
    assert of_runs("5a", both) == of_runs("5a", random)
    assert evidence.judged_split(both) == "random"
    assert evidence.judged_split(cluster | made("leakage-enzyme", [row({}, 0.5)])) == "cluster"


def test_table_1_shows_the_split_that_is_judged() -> None:
    """Never the card of another split, however many studies have one."""
    cards = {("ec37", "cluster"): {"split": "cluster"}, ("ec37", "random"): {"split": "random"}}
    own = made("single-ec37", [], cards=cards)
    assert evidence.class_card(own) == ("single-ec37", {"split": "random"})
    on_cluster = made("single-ec37", [row({"split": "cluster"}, 0.5)], cards=cards)
    assert evidence.class_card(on_cluster) == ("single-ec37", {"split": "cluster"})
