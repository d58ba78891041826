"""One program of a seed: inputs, then ops of random kinds on what is there, then outputs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch

from . import blocks, borders, contractions, elementwise, moves, rare, reductions
from .draft import Draft, Program, Refused, Value

KINDS: Mapping[str, Callable[[Draft], Value]] = {
    **contractions.OPS,
    **elementwise.OPS,
    **moves.OPS,
    **reductions.OPS,
    **borders.OPS,
    **blocks.OPS,
    **rare.OPS,
}
"""Name of a kind of op -> what adds one to a draft, or raises Refused."""

_GROUPS = (
    (contractions.OPS, 4),
    (elementwise.OPS, 3),
    (moves.OPS, 3),
    (reductions.OPS, 1),
    (borders.OPS, 3),
    (blocks.OPS, 5),
    (rare.OPS, 2),
)
_TRIES = 200


def grow(seed: int) -> Program:
    """3 to 25 ops; the same one in every process."""
    rng = random.Random(seed)
    with torch.no_grad():
        for _ in range(_TRIES):
            d = Draft(random.Random(rng.getrandbits(62)))
            try:
                return _grown(d)
            except Refused:
                continue
    raise AssertionError(f"seed {seed} gives no program")


def _grown(d: Draft) -> Program:
    is_empty = d.chance(0.03)
    for _ in range(d.rng.choice((1, 1, 1, 2, 2, 3))):
        _input(d, is_empty)
    kinds: list[str] = []
    wanted = d.rng.randint(3, 25)
    for _ in range(8 * wanted):
        ops = d.rng.choices([ops for ops, _ in _GROUPS], [weight for _, weight in _GROUPS])[0]
        kind = d.rng.choice(list(ops))
        try:
            d.keep(ops[kind](d))
        except Refused:
            continue
        kinds.append(kind)
        if len(kinds) == wanted:
            break
    return d.program(_outputs(d), kinds)


def _input(d: Draft, is_empty: bool) -> Value:
    """Float32; now and then half precision, a strided one, or codes."""
    rank = d.rng.choice((1, 2, 2, 3, 3, 4, 4, 4, 4, 5))
    sizes = {1: (8, 16), 2: (4, 8, 16), 3: (3, 5, 8), 4: (4, 6, 8), 5: (2, 3, 4)}[rank]
    shape = [0 if is_empty else d.rng.choice((1, 2, 3)), *(d.rng.choice(sizes) for _ in range(rank - 1))]
    if d.inputs and d.chance(0.5):
        shape = list(d.inputs[0].shape)
    tensor = d.normal(*shape, scale=d.rng.choice((1.0, 2.0, 0.3)))
    if d.chance(0.03):
        tensor = tensor.to(d.rng.choice((torch.bfloat16, torch.float16)))
    if len(shape) == 4 and d.chance(0.2):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    elif len(shape) > 1 and d.chance(0.1):
        tensor = tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    return d.input(tensor)


def _outputs(d: Draft) -> object:
    """The last value and some others, inputs included; now and then one twice, or in a dict."""
    made = d.pool[-1]
    others = [d.rng.choice(d.pool) for _ in range(d.rng.choice((0, 0, 0, 1, 1, 2, 3)))]
    nodes = [each.node for each in (made, *others)]
    if made.node.op == "placeholder":
        raise Refused
    if len(nodes) == 1 and d.chance(0.5):
        return nodes[0]
    return tuple(nodes)
