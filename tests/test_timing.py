"""How calls are timed: in turns, and compared within rounds."""

from __future__ import annotations

import pytest
import torch

from qegraph.timing import Timing, at_one_speed, interleave, speedup, threads


def test_variants_take_turns_in_changing_order() -> None:
    calls: list[str] = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=20, minimum=0.0)
    assert "".join(calls[:6]) == "aabbcc"
    rounds = ["".join(calls[at : at + 3]) for at in range(6, len(calls), 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    neighbours = {pair for each in rounds for pair in (each[:2], each[1:])}
    assert len(neighbours) == 6, "each has followed each"
    assert list(timings) == ["a", "b", "c"] and all(len(each.samples) == 20 for each in timings.values())


def test_speedup_cancels_load_that_slows_whole_rounds() -> None:
    assert speedup(Timing((2.0, 20.0, 4.0)), Timing((1.0, 10.0, 2.0))) == 2.0


def test_at_one_speed_cancels_load_that_slows_whole_rounds() -> None:
    """By their medians the first is slower than the second; in two rounds of three it takes half as long."""
    one, two, three = Timing((1.0, 30.0, 9.0)), Timing((2.0, 60.0, 8.0)), Timing((4.0, 120.0, 10.0))
    assert at_one_speed((one, two, three)) == pytest.approx((4.5, 9.0, 18.0))


def test_a_sample_lasts_the_minimum() -> None:
    calls: list[None] = []
    interleave({"a": lambda: calls.append(None)}, rounds=1, minimum=1e-3)
    assert len(calls) > 10


def test_no_rounds_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        interleave({}, rounds=0)


def test_thread_count_is_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
