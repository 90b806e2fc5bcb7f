"""A queue of arrays against one long array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.array_queue import ArrayQueue


@given(st.lists(st.tuples(st.sampled_from(["append", "take", "first", "drop"]), st.integers(0, 9)), max_size=30))
def test_portions_of_any_size_come_in_the_order_in_which_they_were_appended(steps: list[tuple[str, int]]) -> None:
    queue = ArrayQueue(np.zeros((2, 0, 3), np.float32))
    plain = np.zeros((2, 0, 3), np.float32)
    value = 0
    for action, count in steps:
        if action == "append":
            new = np.arange(value, value + 6 * count, dtype=np.float32).reshape(2, count, 3)
            value += 6 * count
            queue.append(new)
            plain = np.concatenate((plain, new), axis=1)
            continue
        count = min(count, plain.shape[1])
        if action in ("take", "first"):
            found = queue.take(count) if action == "take" else queue.first(count)
            np.testing.assert_array_equal(found, plain[:, :count])
        else:
            queue.drop(count)
        if action != "first":
            plain = plain[:, count:]
        assert len(queue) == plain.shape[1]
