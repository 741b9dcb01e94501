"""How many workers share machine and GPUs: decisions on scripted measurements, no device needed."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ec_sweep import local_executor, machine, worker
from ec_sweep.attempts import Event, Result, Task, now
from ec_sweep.calibrating import GAIN, Calibration, Company
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.machine import Card
from ec_sweep.sharing import RECYCLE_AT, UNMEASURED, Asked, Layout, Seat, Sharing, layout
from ec_sweep.worker_process import Worker
from tests.conftest import Ecsweep

GB = 10**9


def task(name: str = "run", folder: Path = Path(), **changes: Any) -> Task:
    hp = Hyperparameters(**changes)
    return Task(name, folder, "lstm", hp, 0, folder, {"train": 32}, 2)


# What is asked for, and what follows from it


@pytest.mark.parametrize(
    ("asked", "gpus", "cells", "most", "threads", "on_card", "calibrated"),
    [
        (Asked(), 0, 99, 8, 1, 1, False),
        (Asked(), 0, 3, 3, 1, 1, False),  # threads do not depend on what is left to run
        (Asked(workers=2), 0, 99, 2, 4, 1, False),
        (Asked(threads=4), 0, 99, 2, 4, 1, False),
        (Asked(workers=5, threads=3), 0, 99, 5, 3, 1, False),
        (Asked(workers=16), 0, 99, 16, 1, 1, False),
        (Asked(), 2, 99, 8, 4, 4, True),
        (Asked(), 2, 4, 4, 4, 2, True),
        (Asked(), 8, 99, 8, 1, 1, False),
        (Asked(gpu_share=3), 2, 99, 6, 1, 3, False),
        (Asked(workers=3), 2, 99, 3, 2, 2, False),
        (Asked(workers=2, gpu_share=1, threads=7), 2, 99, 2, 7, 1, False),
    ],
)
def test_the_frame_follows_from_what_is_asked_for_and_there(
    asked: Asked, gpus: int, cells: int, most: int, threads: int, on_card: int, calibrated: bool
) -> None:
    """On 8 cores: a single-threaded worker a core; on GPUs from one up, or what was asked for."""
    names = [str(number) for number in range(gpus)]
    frame = layout(asked, 8, names, cells)
    assert (frame.most, frame.threads) == (most, threads)
    assert frame.calibrated == calibrated
    assert frame.on_card == (on_card if gpus else 1)
    assert frame.fixed == (asked.workers is not None)


def test_exclusive_timing_runs_alone_with_all_threads() -> None:
    """Whatever else was asked for: one worker, on one card."""
    frame = layout(Asked(workers=4, gpu_share=2), 8, ["0", "1"], 99, exclusive=True)
    assert frame == Layout(1, 8, ("0",), fixed=True)


def test_what_gpus_cannot_give_is_refused() -> None:
    """A share without a GPU, and more workers than the shares make."""
    with pytest.raises(EcsweepError, match="--gpu-share 2 needs a GPU"):
        Asked(gpu_share=2).check([])
    with pytest.raises(EcsweepError, match=r"at most 4, .* \(here 2\)\. Received: 5"):
        Asked(workers=5, gpu_share=2).check(["0", "1"])
    Asked(workers=4, gpu_share=2).check(["0", "1"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpu-share", "many"), "must be auto or a whole number from 1 to 64. Received: 'many'"),
        (("--gpu-share", "0"), "must be auto or a whole number from 1 to 64. Received: '0'"),
        (("--threads-per-worker", "0"), "--threads-per-worker must be from 1 to 1024. Received: 0"),
        (("--gpu-share", "2"), "--gpu-share 2 needs a GPU"),
        (("--gpu-share", "2", "--executor", "inline"), "leave --gpu-share out"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    ecsweep: Ecsweep, options: Sequence[str], said: str
) -> None:
    """Exit 2, before anything is written."""
    assert said in ecsweep.fails("study", "tiny", *options, CUDA_VISIBLE_DEVICES="-1")
    assert not (ecsweep.home / "mlruns").exists()


# Memory


class Memory:
    """A machine's free memory, as scripted."""

    def __init__(self, free: float) -> None:
        self.free = free

    def __call__(self) -> int:
        return int(self.free * GB)


def no_cards(gpus: Sequence[str]) -> list[Card | None]:
    return [None for _ in gpus]


def test_workers_beyond_free_memory_are_not_started() -> None:
    """Reckoned first, then by what was measured: fewer for large cells, more for small ones."""
    sharing = Sharing(Layout(8, 1), Memory(3 * UNMEASURED / GB), no_cards)
    assert sharing.slots == 3
    assert sharing.said == ["Memory holds 3 of 8 workers: one is reckoned to need 2.5 GB."]
    sharing = Sharing(Layout(8, 1), memory := Memory(10.0), no_cards)
    assert sharing.slots == 4
    sharing.measured(GB // 2, fresh=True)
    memory.free = 8.0  # four hold half a gigabyte each
    sharing.review([GB // 2] * 4)
    assert sharing.slots == 8
    sharing.measured(3 * GB)
    sharing.review([GB] * 4)
    assert sharing.slots == 3  # 8 + 4 GB free or held, 3.3 a worker
    sharing.review([GB] * 3)
    memory.free = 0.0
    sharing.review([GB])
    assert sharing.slots == 1  # never none
    assert sharing.said[-1] == "Memory holds 1 of 8 workers: one is reckoned to need 3.3 GB."


def test_a_large_first_trial_counts_before_it_has_ended() -> None:
    """What a worker holds now is the least that it needs."""
    sharing = Sharing(Layout(4, 1), Memory(12.0), no_cards)
    assert sharing.slots == 4
    sharing.measured(6 * GB)
    sharing.review([6 * GB, GB])
    assert sharing.slots == 3  # 12 + 7 GB, 6 a worker


def test_a_number_that_was_asked_for_holds() -> None:
    """The user may know better than free memory."""
    assert Sharing(Layout(4, 1, fixed=True), Memory(0.1), no_cards).slots == 4


def test_a_trial_that_may_get_company_is_never_recorded_as_alone() -> None:
    """Memory for one worker now, for several later: times of such trials are not exclusive."""
    assert Sharing(Layout(4, 1), Memory(0.1), no_cards).company == 2
    assert Sharing(Layout(1, 4), Memory(99.0), no_cards).company == 1
    two = Layout(8, 1, ("0", "1"), 4, calibrated=True)
    assert Sharing(two, Memory(99.0), no_cards).company == 2
    one = Layout(4, 1, ("0",), 4, calibrated=True)
    sharing = Sharing(one, Memory(99.0), no_cards)
    assert (sharing.slots, sharing.company) == (1, 2)


def test_a_worker_is_recycled_by_what_a_fresh_one_needed() -> None:
    """The limit is a multiple of a first trial's need; growth does not raise it."""
    sharing = Sharing(Layout(4, 1), Memory(99.0), no_cards)
    assert not sharing.grown(99 * GB)  # nothing to compare with
    sharing.measured(GB, fresh=True)
    sharing.measured(3 * GB)
    assert sharing.grown(int(RECYCLE_AT * GB) + 1)
    assert not sharing.grown(int(RECYCLE_AT * GB) - 1)


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    """What a control group has left, without the files that it would give back."""
    (tmp_path / "limit").write_text("1000\n")
    (tmp_path / "usage").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert machine._limit_of(tmp_path, "limit", "usage", "inactive_file") == [(1000, 500)]
    (tmp_path / "limit").write_text("max\n")
    assert machine._limit_of(tmp_path, "limit", "usage", "inactive_file") == []
    assert machine._limit_of(tmp_path / "none", "limit", "usage", "inactive_file") == []
    assert 0 < machine.available_memory() < machine.total_memory() < 1 << 60


# Calibration


def settle(
    speed: Callable[[int], float], most: int = 16, room: int = 99, kinds: int = 1
) -> tuple[int, list[str]]:
    """Calibrate on a card that trains so many epochs a second in all with so many workers."""
    calibration, said = Calibration(most), []
    for number in range(1000):
        share = calibration.share
        kind = number % kinds
        calibration.epoch(kind, (kind + 1) * share / speed(share), share)
        if text := calibration.decide(lambda: room):
            said.append(text)
    assert calibration.settled
    return calibration.share, said


@pytest.mark.parametrize("kinds", [1, 3])
def test_workers_are_added_while_the_whole_grows_faster(kinds: int) -> None:
    """A card that six workers fill: four pay, eight do not; cells of any kind."""
    share, said = settle(lambda workers: 1.0 * min(workers, 4.3), kinds=kinds)
    assert share == 4
    assert said == [
        "GPU sharing: trying 2 workers a card.",
        "GPU sharing: 2 train 2.00 times as fast as 1; trying 4 workers a card.",
        "GPU sharing: 4 train 2.00 times as fast as 2; trying 8 workers a card.",
        "GPU sharing: settled at 4 workers a card: 8 train 1.07 times as fast as 4.",
    ]


def test_a_card_that_one_worker_fills_keeps_one() -> None:
    """A gain below the stated one does not count, nor does a loss."""
    for gain in (GAIN - 0.01, 0.7):
        share, said = settle(lambda workers, gain=gain: gain if workers > 1 else 1.0)  # type: ignore[misc]
        assert share == 1
        assert said[-1].startswith("GPU sharing: settled at 1 worker a card: 2 train ")


def test_memory_and_cores_bound_the_workers() -> None:
    """No more than the card's memory holds, by what those there took; no more than allowed."""
    share, said = settle(float, room=5)
    assert share == 5
    assert "memory holds 5; trying 5 workers a card." in said[-2]
    assert settle(float, room=1)[0] == 1
    assert settle(float, most=6)[0] == 6


def test_epochs_with_less_company_tell_nothing() -> None:
    """When one of two workers still starts, the other's quick epochs are no gain."""
    calibration = Calibration(4)
    for _ in range(3):
        calibration.epoch("a", 1.0, 1.0)
    assert calibration.decide(lambda: 9)
    for _ in range(30):
        calibration.epoch("a", 1.0, 1.2)
    assert calibration.decide(lambda: 9) is None
    assert calibration.share == 2


def test_kinds_never_seen_before_need_more_epochs() -> None:
    """Cells that cost otherwise are compared as a whole, when there are many of them."""
    calibration = Calibration(2)
    for _ in range(3):
        calibration.epoch("small", 1.0, 1.0)
    calibration.decide(lambda: 9)
    for number in range(12):
        assert calibration.decide(lambda: 9) is None, number
        calibration.epoch(f"large {number}", 4.0, 2.0)
    assert "settled at 1 worker" in (calibration.decide(lambda: 9) or "")


def test_running_out_of_memory_halves_the_share() -> None:
    """Whatever was gained by it."""
    calibration = Calibration(16)
    for _ in range(2):
        for _ in range(3):
            calibration.epoch("a", 1.0, float(calibration.share))
        calibration.decide(lambda: 99)
    assert calibration.share == 4
    assert "settled at 2 workers a card: more ran out" in (calibration.give_way() or "")
    assert calibration.give_way() or calibration.share == 1


def test_company_is_an_average_over_time() -> None:
    """A trial that joins in the middle of an epoch counts half."""
    times = iter([0.0, 0.0, 0.0, 5.0, 10.0])
    company = Company(lambda: next(times))
    company.change(1)
    mark = company.mark()
    company.change(1)
    assert company.since(mark) == 1.5


class Cards:
    """Two cards of 80 GB, on which each worker takes what the script says."""

    def __init__(self, each: float) -> None:
        self.each, self.workers = each, 0

    def __call__(self, gpus: Sequence[str]) -> list[Card | None]:
        free = int((80 - self.each * self.workers) * GB)
        return [Card(80 * GB, free) for _ in gpus]


def test_a_whole_calibration_on_two_cards() -> None:
    """Epochs of trials on both cards raise the share of both, until memory holds no more."""
    clock, cards = SimpleNamespace(now=0.0), Cards(20.0)
    frame = Layout(16, 1, ("0", "1"), 8, calibrated=True)
    sharing = Sharing(frame, Memory(999.0), cards, lambda: clock.now)
    assert (sharing.slots, sharing.seat(1)) == (2, Seat(1, "1"))
    running = 0
    for _ in range(20):
        for slot in range(running, sharing.slots):
            sharing.trains(slot, 1)
        running, cards.workers = sharing.slots, sharing.share
        marks = [sharing.mark(slot) for slot in range(running)]
        clock.now += 10.0
        for slot, mark in enumerate(marks):
            event = Event(0, 2, {"epoch_seconds": 10.0})
            sharing.epoch(slot, task(learning_rate=0.1 / (slot + 1)), event, mark)
        sharing.review([GB] * running)
    assert (sharing.share, sharing.slots) == (3, 6)
    assert sharing.said[-2:] == [
        "GPU sharing: 2 train 2.00 times as fast as 1; memory holds 3; trying 3 workers a card.",
        "GPU sharing: settled at 3 workers a card: 3 train 1.50 times as fast as 2; "
        "memory holds 3.",
    ]


# What workers are born with


def test_each_worker_has_its_part_of_the_card() -> None:
    """Caps fit the number of workers, around what others hold; alone there is none."""
    frame = Layout(8, 1, ("0", "1"), 4)
    sharing = Sharing(frame, Memory(999.0), Cards(0.0))
    assert [sharing.seat(slot).gpu for slot in range(4)] == ["0", "1", "0", "1"]
    seat = sharing.seat(2)
    assert (seat.share, seat.memory, seat.fraction) == (4, 18 * GB, 0.225)
    alone = sharing.seat(2, alone=True)
    assert (alone.share, alone.memory) == (1, None)
    assert sharing.too_wide(alone)
    assert not sharing.too_wide(seat)
    unknown = Sharing(frame, Memory(999.0), no_cards).seat(0)  # part of a card, say
    assert (unknown.share, unknown.memory) == (4, None)


def test_the_backend_finds_its_bounds_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is imported; what the user set holds, and CUDA MPS' variables stay."""
    environment = {
        "CUDA_MPS_PIPE_DIRECTORY": "/mps", "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", environment)
    worker._take(Seat(2, "1", 4, 18 * GB, 0.225))
    assert environment == {
        "CUDA_MPS_PIPE_DIRECTORY": "/mps",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2250",
    }
    environment.clear()
    environment["XLA_CLIENT_MEM_FRACTION"] = "0.1"
    worker._take(Seat(2, "1", 4, 18 * GB, 0.225))
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment
    environment.clear()
    worker._take(Seat(2))
    assert environment == {"PJRT_NPROC": "2"}


def test_tensorflow_takes_no_more_than_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logical device of that size, else as much as it comes to need."""
    import tensorflow as tf

    from ec_sweep import trial

    said: list[Any] = []
    monkeypatch.setattr(trial.gc, "freeze", lambda: None)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["gpu"])
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, said.append)
    monkeypatch.setattr(
        tf.config, "set_logical_device_configuration", lambda *asked: said.append(asked)
    )
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda *asked: said.append(asked)
    )
    trial.configure(1, False, 3 << 30)
    gpu, (device,) = said[-1]
    assert (gpu, device.memory_limit) == ("gpu", 3072)
    trial.configure(4, False)
    assert said[-3:] == [4, 4, ("gpu", True)]


NVIDIA_SMI = """#!/bin/sh
case "$1" in
*memory*) printf '0, GPU-a, 81559, 81000\\n1, GPU-b, 81559, [N/A]\\n' ;;
*) printf '0\\n1\\n' ;;
esac
"""


def test_cards_tell_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By index or by name; what nvidia-smi does not say is unknown."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    whole = Card(81559 << 20, 81000 << 20)
    assert machine.cards(["GPU-a", "1", "0", "MIG-x"]) == [whole, None, whole, None]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.cards(["0"]) == [None]


def test_mps_is_seen_by_its_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running or not; nothing is started."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not machine.mps_runs()
    os.mkfifo(tmp_path / "control")
    assert machine.mps_runs()


class Workers:
    """Stands where processes would be: the test speaks for them through real pipes."""

    def __init__(self) -> None:
        self.born: list[Worker] = []
        self.ends: list[Any] = []

    def __call__(self, slot: int, seat: Seat, deterministic: bool, log: Path) -> Worker:
        ours, theirs = multiprocessing.Pipe()
        process: Any = SimpleNamespace(
            pid=0, exitcode=None, is_alive=lambda: True, kill=lambda: None, join=lambda _: None
        )
        self.born.append(Worker(process, ours, deterministic, log, slot, seat))
        self.ends.append(theirs)
        return self.born[-1]


def test_trials_spread_over_cards_and_say_what_they_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes to the card that has least to do; an attempt's environment tells of its company."""
    workers = Workers()
    monkeypatch.setattr(local_executor, "born", workers)
    monkeypatch.setattr(local_executor, "cards", Cards(0.0))
    executor = LocalExecutor(Layout(4, 3, ("0", "1"), 2, fixed=True), tmp_path, "x")
    executor.start()
    assert [own.seat.gpu for own in workers.born] == ["0", "1", "0", "1"]
    for name in ("a", "b", "c"):
        executor.submit(task(name, tmp_path))
    assert [bool(own.task) for own in workers.born] == [True, True, True, False]
    workers.ends[0].send(Result("complete", now(), {"peak_memory_mb": 100.0}))
    event, result = (message.content for message in executor.poll(1))
    assert isinstance(event, Event)
    assert isinstance(result, Result)
    assert event.environment == {
        "worker_threads": "3", "trials_at_once": "3", "gpu": "0", "gpu_share": "2",
        "gpu_memory": "45.0% of the card", "cuda_mps": "false",
    }  # fmt: skip
    workers.ends[2].send(Result("complete", now()))
    executor.poll(1)
    executor.submit(task("d", tmp_path))
    assert workers.born[0].task  # card 0 has nothing to do
    for end in workers.ends[:2]:
        end.send(Result("complete", now()))
    executor.poll(1)
    executor.release()
    executor.submit(task("alone", tmp_path))
    assert (len(workers.born), workers.born[-1].seat.memory) == (5, None)
    workers.ends[-1].send(Result("complete", now()))
    executor.poll(1)
    executor.submit(task("packed", tmp_path))  # not in a worker that may take a whole card
    assert (len(workers.born), workers.born[-1].seat.share) == (6, 2)
    executor.close()


def test_a_card_gets_a_second_worker_by_what_trials_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs arrive through the executor; the decision is told, and the next trial has company."""
    workers, said = Workers(), []
    monkeypatch.setattr(local_executor, "born", workers)
    monkeypatch.setattr(local_executor, "cards", Cards(10.0))
    monkeypatch.setattr(local_executor, "_REVIEW", 0.0)
    executor = LocalExecutor(Layout(4, 1, ("0",), 4, calibrated=True), tmp_path, "x")
    executor.note = said.append
    executor.start()
    assert (executor.slots, len(workers.born)) == (1, 1)
    executor.submit(task("a", tmp_path))
    replayed = Event(1, 1, {"epoch_seconds": 1.0})  # of an attempt before
    for event in [replayed] * 9:
        workers.ends[0].send(event)
    executor.poll(1)
    for epoch in range(4):
        assert executor.slots == 1
        workers.ends[0].send(Event(now() + 1, epoch + 1, {"epoch_seconds": 1.0}))
        executor.poll(1)
    assert said == ["GPU sharing: trying 2 workers a card."]
    assert executor.slots == 2
    executor.submit(task("b", tmp_path))
    assert (workers.born[0].seat.memory, workers.born[1].seat.memory) == (None, 36 * GB)
    workers.ends[0].send(Result("not_available", now(), failure="oom"))
    executor.poll(1)
    assert said[-1] == "GPU sharing: settled at 1 worker a card: more ran out of memory."
    assert executor.slots == 1
    executor.close()
