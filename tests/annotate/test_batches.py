import pytest
import torch

from annotate.batches import Batches


class Model:
    """Doubles numbers; runs out of memory above so many at once."""

    def __init__(self, most):
        self.most, self.sizes = most, []

    def __call__(self, items):
        self.sizes.append(len(items))
        if len(items) > self.most:
            raise torch.OutOfMemoryError(f"tried to allocate {len(items)}")
        return [2 * item for item in items]


def test_memory_that_runs_out_halves_the_batch_which_stays_so():
    model, batches = Model(3), Batches(16)
    assert batches.run(model, list(range(11))) == [2 * k for k in range(11)]
    assert model.sizes == [11, 5, 2, 2, 2, 2, 2, 1] and batches.size == 2
    assert batches.run(model, [1, 2, 3]) == [2, 4, 6] and model.sizes[8:] == [2, 1]


def test_one_item_too_large_for_the_memory_is_torchs_own_error():
    with pytest.raises(torch.OutOfMemoryError, match="tried to allocate 1"):
        Batches(4).run(Model(0), [1, 2, 3])


def test_other_errors_and_missing_results_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        Batches(4).run(lambda items: [1 // 0 for _ in items], [1])
    with pytest.raises(ValueError, match="2 results for a batch of 3"):
        Batches(4).run(lambda items: items[1:], [1, 2, 3])
    with pytest.raises(ValueError, match="batch size 0"):
        Batches(0)
    assert Batches(4).run(Model(1), []) == []
