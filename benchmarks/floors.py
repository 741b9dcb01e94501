"""The least time of one training step: FLOPs and bytes of each layer against measured rates.

A layer's time is the larger of its FLOPs over the rate of matrix products and its bytes over
the rate of copying; a step's is the sum, for layers depend on each other. Counted is float32
training by backpropagation with Adam, every chain of element-wise operations fused into one
pass, every tensor brought from memory: a cache that holds the small ones can beat that part.
Not counted: the dependence of a recurrence's steps, each of which waits for the one before,
and functions such as tanh, whose FLOPs run at another rate.
"""

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ec_sweep.encoding import LETTERS

FLOAT = 4  # bytes
GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Work:
    """What has to be done at least."""

    flops: float = 0
    """Of matrix products: a multiplication and an addition are two."""
    bytes: float = 0
    """Read and written."""


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second, measured: all that the floors know of it."""

    flops: float
    """Of large matrix products of float32."""
    bytes: float
    """Read and written by a copy between arrays that no cache holds."""

    def seconds(self, work: Work) -> float:
        """Return the least time of one piece of work."""
        return max(work.flops / self.flops, work.bytes / self.bytes)


def dense(batch: int, inputs: int, outputs: int) -> Work:
    """Forward, gradient of the inputs and gradient of the weights: three matrix products.

    The weights are read by the first two and their gradient is written by the third, so 12
    bytes a weight; inputs are read twice and their gradient is written, outputs are written
    and their gradient is read twice.
    """
    return Work(
        flops=3 * 2 * batch * inputs * outputs,
        bytes=FLOAT * 3 * (inputs * outputs + batch * (inputs + outputs)),
    )


def convolution(
    batch: int, positions: int, filter_size: int, channels: int, filters: int, *, first: bool
) -> Work:
    """Dense products over windows: forward, weights' gradient and, but for the first, inputs'.

    The first layer's one-hot letters are made where they are used: a byte a residue is read,
    twice. (Adding rows of the weights instead would need 21 times fewer operations than the
    product counted here; no library does.) Its outputs are written once, and their gradient
    is read once for each gradient made of it.
    """
    weights = filter_size * channels * filters
    products = 2 if first else 3
    inputs = batch * positions * (2 if first else 3 * channels * FLOAT)
    outputs = batch * positions * filters * FLOAT * products
    return Work(
        flops=products * 2 * batch * positions * weights,
        bytes=inputs + outputs + FLOAT * products * weights,
    )


def normalisation(batch: int, positions: int, channels: int, pool_size: int = 1) -> Work:
    """Batch normalisation with activation and max pooling, as few passes as can be.

    Forward: the statistics are summed while the layer before writes, so values are read once,
    and one in ``pool_size`` is written. Backward: two passes over values and pooled gradient,
    as the statistics' gradient needs all of them before the first is written.
    """
    values = batch * positions * channels
    forward = values + values / pool_size
    backward = 2 * (values + values / pool_size) + values
    return Work(bytes=FLOAT * (forward + backward))


def recurrent(
    kind: str, batch: int, steps: int, inputs: int, units: int, *, first: bool, sequences: bool
) -> Work:
    """Products with the inputs, of all steps at once, and with the state, step by step.

    Each is done forward, for the weights' gradient and for its own gradient, but one-hot
    letters need none. The state's weights stay in the cache. For the way back each step's
    gates and state (and an LSTM's cell) are written once and read once, and the gates'
    gradient likewise. Inputs are read twice and their gradient is written, as in `dense`.
    """
    gates = GATES[kind] * units
    states = 2 if kind == "LSTM" else 1
    flops = 2 * batch * steps * gates * (inputs * (2 if first else 3) + units * 3)
    kept = 2 * batch * steps * (2 * gates + states * units)
    read = batch * steps * (2 / FLOAT if first else 3 * inputs)
    handed = batch * steps * units if sequences else 0  # the gradient of each state comes in
    return Work(flops, FLOAT * (kept + read + handed + 3 * gates * (inputs + units)))


def adam(weights: int) -> Work:
    """28 bytes a weight: gradient, weight and two moments are read, the last three written."""
    return Work(bytes=7 * FLOAT * weights)


def of_network(network: Any, batch: int) -> dict[str, list[Work]]:
    """Return the work of one step of a Keras network: by kind of layer, of each such layer."""
    found: dict[str, list[Work]] = {}
    pools = [layer for layer in network.layers if type(layer).__name__ == "MaxPooling1D"]
    for layer in network.layers:
        kind, work = type(layer).__name__, None
        entering = layer.input if isinstance(layer.input, list) else [layer.input]
        shape: Any = entering[0].shape if entering else ()  # a second one is a mask
        if kind == "Dense":
            work = dense(batch, shape[-1], layer.units)
        elif kind == "Conv1D":
            channels, positions = shape[-1], layer.output.shape[1]
            work = convolution(
                batch, positions, layer.kernel_size[0], channels, layer.filters,
                first=channels == LETTERS,
            )  # fmt: skip
        elif kind in GATES:
            steps, inputs = shape[1:]
            work = recurrent(
                kind, batch, steps, inputs, layer.units,
                first=inputs == LETTERS, sequences=layer.return_sequences,
            )  # fmt: skip
        elif kind == "BatchNormalization":
            positions = shape[1] if len(shape) == 3 else 1
            pool = pools[0].pool_size[0] if pools and positions > pools[0].output.shape[1] else 1
            work = normalisation(batch, positions, shape[-1], pool)
        if work:
            found.setdefault(kind, []).append(work)
    weights = sum(math.prod(variable.shape) for variable in network.trainable_variables)
    return found | {"Adam": [adam(weights)]}


def of_model(model: str, hyperparameters: Any, classes: int) -> dict[str, list[Work]]:
    """Return the work of one step of one of ecsweep's models."""
    from ec_sweep.models import MODELS

    network = MODELS[model].build(hyperparameters, classes)
    return of_network(network, hyperparameters.batch_size)


def seconds(works: dict[str, list[Work]], rates: Rates) -> float:
    """Return the least time of a step."""
    return sum(rates.seconds(work) for layers in works.values() for work in layers)


def in_words(works: dict[str, list[Work]], rates: Rates) -> str:
    """Return what each kind of layer has of the least time of a step, in milliseconds."""
    return ", ".join(
        f"{kind} {1000 * seconds({kind: layers}, rates):.1f}" for kind, layers in works.items()
    )


def cpu_rates() -> tuple[Rates, str]:
    """Measure what this process' core does; the faster library counts. Returns words, too."""
    found = {"NumPy": _rate(_numpy_product(2048))}
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import tensorflow as tf

        one = tf.random.normal([2048, 2048])
        product = tf.function(lambda a: tf.linalg.matmul(a, a))
        found["TensorFlow"] = _rate((2 * 2048**3, lambda: product(one).numpy()))
    source = np.ones(1 << 26, np.float32)  # 256 MiB
    target = np.empty_like(source)
    copied = _rate((2 * source.nbytes, lambda: np.copyto(target, source)))
    best = max(found, key=lambda name: found[name][0])
    words = (
        "one core: "
        + ", ".join(f"{name} {_spread(rates, 1e9)} GFLOP/s" for name, rates in found.items())
        + f" (a product of 2,048 x 2,048 matrices), copying {_spread(copied, 1e9)} GB/s "
        "(read and written)"
    )
    return Rates(found[best][0], copied[0]), words


def device_rates(*, quick: bool = False) -> tuple[Rates, str]:
    """Measure what the device of Keras' backend does, in the precision that it takes by itself."""
    from keras import ops, random

    size, length = (512, 1 << 22) if quick else (8192, 1 << 29)
    one, values = random.normal((size, size)), random.normal((length,))

    def wait(result: Any) -> None:  # backends return before the device is done
        ops.convert_to_numpy(ops.ravel(result)[:1])

    calls = 10  # to one wait

    def repeated(job: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(calls):
                result = job()
            wait(result)

        return call

    multiplied = _rate((calls * 2 * size**3, repeated(lambda: ops.matmul(one, one))))
    copied = _rate((calls * 2 * FLOAT * length, repeated(lambda: ops.negative(values))))
    words = (
        f"{_spread(multiplied, 1e12)} TFLOP/s (float32 matrices of {size:,} x {size:,} in the "
        f"backend's own precision), copying {_spread(copied, 1e9)} GB/s (read and written)"
    )
    return Rates(multiplied[0], copied[0]), words


def _numpy_product(size: int) -> tuple[float, Callable[[], Any]]:
    generator = np.random.default_rng(0)
    one = generator.standard_normal((size, size), np.float32)
    out = np.empty_like(one)
    return 2 * size**3, lambda: np.matmul(one, one, out=out)


def _rate(job: tuple[float, Callable[[], Any]], rounds: int = 7) -> tuple[float, float, float]:
    """Return how much of a job is done in a second: the best, the median and the least rate.

    The best is the floor's: others at work slow a round, nothing hastens one.
    """
    amount, call = job
    call()
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return amount / min(times), amount / statistics.median(times), amount / max(times)


def _spread(rates: tuple[float, float, float], unit: float) -> str:
    best, _, least = (rate / unit for rate in rates)
    return f"{best:.3g} (least {least:.3g})"
