"""The other end of `Worker`: `python -m qegraph.coverage.serve ROUTE`.

Reads one [family, name] a line and writes one [verdict, reason] a line, until its input ends.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings

from .judge import judge
from .matrix import cells
from .routes import ROUTES
from .worker import BROKEN


def serve(route: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print must not be taken for an answer
    known = {(cell.family, cell.name): cell for cell in cells()}
    for line in sys.stdin:
        family, name = json.loads(line)
        try:
            outcome = judge(known[family, name], route, ROUTES[route].build)
            answer = [outcome.verdict, outcome.reason]
        except Exception as problem:  # not the engine's, whose are verdicts, so the parent must hear of it
            answer = [BROKEN, f"{type(problem).__name__}: {problem}"]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    serve(sys.argv[1])
