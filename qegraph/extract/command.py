"""`qegraph extract`: the cheapest program in an e-graph from a file."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

from qegraph.errors import QegraphError
from qegraph.extract import gym
from qegraph.extract.pipeline import extract
from qegraph.files import write_text


def extract_file(path: Path, time_limit: float | None = None, out: Path | None = None) -> int:
    """Print what the extraction of `path` found and return the exit code; `out` gets the choice, e-class -> e-node.

    time_limit  seconds, see `extract`. Raises QegraphError for what isn't an e-graph or has no solution.
    """
    read = gym.read(path)
    start = perf_counter()
    try:
        selection = extract(read.snapshot, read.costs, time_limit=time_limit)
    except QegraphError as error:
        raise QegraphError(f"{path}: {error}") from error
    seconds = perf_counter() - start
    print(f"{len(read.snapshot.nodes)} e-nodes in {len(read.classes)} e-classes, {len(read.snapshot.roots)} roots")
    print(f"cost           {selection.cost:.10g}")
    print(f"lower bound    {selection.lower_bound:.10g}")
    print(f"gap            {selection.gap:.3%}")
    print(f"method         {selection.method}")
    print(f"largest cycle  {selection.largest_cycle}")
    print(f"seconds        {seconds:.3f}")
    for note in selection.notes:
        print(f"note: {note}")
    if out is not None:
        written = {
            "cost": selection.cost,
            "lower_bound": selection.lower_bound,
            "method": selection.method,
            "largest_cycle": selection.largest_cycle,
            "seconds": seconds,
            "choice": read.choice(selection),
        }
        write_text(out, json.dumps(written, indent=1) + "\n")
    return 0
