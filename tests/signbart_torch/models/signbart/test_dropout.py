"""Dropout is dropout: rate, scale, gradient, seed."""

import pytest
import torch

from signbart_torch.models.signbart.dropout import Dropout, dropout

COUNT = 1 << 20


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.3, 0.5, 0.7, 0.99])
def test_zeros_are_as_many_as_asked_and_the_others_scaled(p):
    torch.manual_seed(0)
    dropped = dropout(torch.ones(COUNT), p, True)
    share = (dropped == 0).double().mean().item()
    # Five standard deviations of a binomial, and half a level of 1 / 65536.
    assert abs(share - p) <= 5 * (p * (1 - p) / COUNT) ** 0.5 + 2**-17
    (scale,) = dropped[dropped != 0].unique().tolist()
    assert scale == pytest.approx(1 / (1 - p), rel=1e-3)


def test_the_expectation_is_exact():
    for p in (1e-4, 0.3, 0.7):
        zeros = round(p * 65536)
        kept = dropout(torch.ones(4096), p, True).max().item()
        assert kept * (65536 - zeros) / 65536 == pytest.approx(1, rel=1e-7)


def test_elements_are_independent():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(COUNT), 0.5, True) != 0).double()
    for distance in (1, 2, 3, 4, 8, 624):  # four share a draw; the generator's state has 624
        together = (kept[distance:] * kept[:-distance]).mean().item()
        assert abs(together - 0.25) <= 5 * (3 / 16 / COUNT) ** 0.5


def test_the_gradient_passes_where_the_value_did():
    states = torch.rand(3, 5, 7, requires_grad=True)
    dropped = dropout(states, 0.4, True)
    dropped.sum().backward()
    torch.testing.assert_close(states.grad * states.detach(), dropped.detach())
    assert (states.grad == 0).any() and (states.grad > 1.6).any()


def test_the_global_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return dropout(torch.ones(100), 0.5, True)

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_shape_and_type(shape, dtype):
    dropped = dropout(torch.ones(shape, dtype=dtype), 0.5, True)
    assert dropped.shape == shape and dropped.dtype == dtype
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_what_is_not_contiguous_keeps_its_places():
    states = torch.rand(6, 4).t()
    dropped = dropout(states, 0.5, True)
    kept = dropped != 0
    assert torch.equal(dropped[kept], 2 * states[kept])


def test_a_probability_next_to_one_keeps_something_possible():
    assert dropout(torch.ones(COUNT), 1 - 1e-9, True).isfinite().all()


def test_without_training_nothing_changes_and_nothing_is_drawn():
    states, before = torch.rand(5), torch.get_rng_state()
    assert dropout(states, 0.5, False) is states and dropout(states, 0.0, True) is states
    module = Dropout(0.5)
    assert module.eval()(states) is states
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(module.train()(states), states)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_what_is_no_probability_is_named(p):
    with pytest.raises(ValueError, match=r"not in \[0, 1\)"):
        dropout(torch.ones(2), p, True)
