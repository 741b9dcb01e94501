"""What is kept of the errors that end trials."""

import pytest

from ec_sweep.failures import classify

EAGER = (
    "{{function_node __wrapped__X_device_/job:localhost/replica:0/task:0/device:CPU:0}} OOM when "
    "allocating tensor with shape[9,9] and type float on "
    "/job:localhost/replica:0/task:0/device:CPU:0 by allocator mklcpu [Op:RandomUniform] name: "
)
GRAPH = (
    "Graph execution error:\n\nDetected at node MatrixInverse defined at (most recent call last):\n"
    '  File "tf.py", line 15, in <module>\n\n  File "tf.py", line 14, in h\n\n'
    "Input is not invertible.\n\t [[{{node MatrixInverse}}]]\n"
    "Hint: If you want to see a list of allocated tensors.\n [Op:__inference_h_18]"
)


class ResourceExhaustedError(Exception):
    """As TensorFlow names it."""


@pytest.mark.parametrize(
    ("error", "failure", "message"),
    [
        (ResourceExhaustedError(EAGER), "oom",
         "ResourceExhaustedError: OOM when allocating tensor with shape[9,9] and type float on "
         "CPU:0 by allocator mklcpu"),
        (RuntimeError(GRAPH), "error", "RuntimeError: Input is not invertible."),
        (ValueError("first line\nsecond"), "error", "ValueError: first line"),
        (MemoryError(), "oom", "MemoryError: "),
        (ValueError("{{node}}"), "error", "ValueError: {{node}}"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_one_line(error: Exception, failure: str, message: str) -> None:
    """Of TensorFlow's pages the line that says what happened; all of it is in the traceback."""
    result = classify(error)
    assert (result.failure, result.message) == (failure, message)
    assert str(error) in result.traceback
