"""`qegraph calibrate`: the rates that estimates are made from, measured on this machine in seconds.

Each rate is read off a call that little else plays a part in. A model has many calls of a kind, one after another, and
the caches are full of other data in between: so each call is repeated, with a sweep through memory before it.

What calls cost beside work is one number: how much more they take here than by default. How their costs compare is
torch's and oneDNN's doing; single calls don't show it as well as whole models, which the defaults were fitted to.
What isn't measured differs from its default as its like does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from statistics import median

import torch

from qegraph.cost import DEFAULTS, Rates
from qegraph.progress import SILENT, Tell
from qegraph.tuning import samples
from qegraph.tuning.samples import Call, Work

ROUNDS = 25
STAGES = 2 * (ROUNDS + 1)
"""Steps that progress is told in: a warm-up and the rounds, of calls and of work."""
_SWEEP = 1 << 18
"""Bytes."""
_REPEATS = 3
"""The last one is timed."""
_CALLS = tuple(each.name for each in fields(Rates) if each.name.endswith("_call") or each.name == "view")
_AS_FLOATS = (
    "float8_macs", "float8_decoded", "half_linear_macs", "half_weight",
    *(f"weight_only{bits}_{dtype}_macs" for bits in ("", "4") for dtype in ("bfloat16", "float32", "float16")),
)  # fmt: skip
"""Rates of kernels that multiply floats."""

Samples = Mapping[str, list[float]]
"""Name of a call -> µs, one a round."""


def calibrate(tell: Tell = SILENT) -> Rates:
    """This machine's rates at the thread count in force. Takes a few seconds, in `STAGES` steps."""
    with torch.no_grad():
        tell("what a call costs")
        calls = _in_turns(samples.calls(), tell, 0)
        tell("arithmetic and memory")
        of = samples.work()
        work = _in_turns({name: each.call for name, each in of.items()}, tell, ROUNDS + 1)
    return _rates(calls, of, work, DEFAULTS.on(torch.get_num_threads()))


def _rates(calls: Samples, of: Mapping[str, Work], work: Samples, defaults: Rates) -> Rates:
    called = {name: median(each) for name, each in calls.items()}
    dearer = median(took / getattr(defaults, name) for name, took in called.items() if name in _CALLS)
    zero_point = max(_between(calls, "conv_call", "zero point"), 0.0)
    padded = _between(calls, "padded", "padded zero point")
    took = {name: median(each) for name, each in work.items()}
    linear, conv = called["linear_call"], called["conv_call"]
    linear_macs = of["linear"].macs / _above(took["linear"], linear)
    int8_macs = of["conv"].macs / _above(took["conv"], conv)
    conv_outputs = of["pointwise"].outputs / _above(took["pointwise"], conv + of["pointwise"].macs / int8_macs)
    few = of["few channels"].macs / _above(took["few channels"], conv + of["few channels"].outputs / conv_outputs)
    depthwise = of["depthwise"].macs / _above(took["depthwise"], conv + of["depthwise"].outputs / conv_outputs)
    float_macs = of["float"].macs / took["float"]
    float_depthwise = of["float depthwise"].macs / _above(took["float depthwise"], defaults.float_conv_call * dearer)
    rates = {
        "zero_point": zero_point,
        "padded_zero_point": max(padded - zero_point, 0.0),
        "zero_point_weights": of["weights"].weights / max(_between(work, "weights", "weight sums") - zero_point, 1.0),
        "linear_macs": linear_macs,
        "int8_macs": int8_macs,
        "kernel_bandwidth": of["row"].weights / _above(took["row"], linear),
        "linear_outputs": of["rows"].outputs / _above(took["rows"], linear + of["rows"].macs / linear_macs),
        "conv_outputs": conv_outputs,
        "full_channels": max(3 * int8_macs / few, 1.0),
        "group_channels": max(int8_macs / depthwise, 1.0),
        "float_macs": float_macs,
        "float_group_channels": max(float_macs / float_depthwise, 1.0),
        "bfloat16_macs": of["bfloat16"].macs / took["bfloat16"],
        "bandwidth": 3 * 4 * of["add"].outputs / _above(took["add"], called["aten_call"]),
        "quantized": of["quantize"].outputs / _above(took["quantize"], called["quantize_call"]),
        "dequantized": of["dequantize"].outputs / _above(took["dequantize"], called["dequantize_call"]),
        "scaled": of["scaled"].outputs / _above(took["scaled"], conv),
        "normed": of["normed"].outputs / _above(took["normed"], called["norm_call"]),
    }
    alike = {
        **{name: getattr(defaults, name) * dearer for name in _CALLS},
        **{name: getattr(defaults, name) * float_macs / defaults.float_macs for name in _AS_FLOATS},
        "pooled": defaults.pooled * rates["scaled"] / defaults.scaled,
    }
    return replace(defaults, **rates, **alike)


def _above(whole: float, call: float) -> float:
    """What is left of a time without the call; a tenth at least, should noise eat the rest."""
    return max(whole - call, 0.1 * whole)


def _between(of: Samples, one: str, other: str) -> float:
    """How much longer the other one takes, in µs: within rounds, as the machine's speed may change between them."""
    return median(b - a for a, b in zip(of[one], of[other], strict=True))


def _in_turns(calls: Mapping[str, Call], tell: Tell, done: int) -> Samples:
    """Each as in a model, see above. `done`: rounds before these."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    swept = torch.zeros(_SWEEP, dtype=torch.uint8)
    for turn in range(ROUNDS + 1):
        tell.done(done + turn)
        for name, call in calls.items():
            microseconds = 0.0
            for _ in range(_REPEATS):
                swept.add_(1)
                begin = time.perf_counter()
                call()
                microseconds = (time.perf_counter() - begin) * 1e6
            taken[name].append(microseconds)
    return {name: each[1:] for name, each in taken.items()}
