"""Rules proved by sampling: both sides of a rule are run as graphs on instances made for it, and compared.

`hints` reads off a rule's guards what samples should look like; `sampler`, with what `growers`, `contractions`,
`params` and `moves` know of each word, binds the rule's variables; `load` puts the samples into an e-graph, in which
`batch` lets the rule match, and emits what it made; `evaluate` computes the left sides by the reference semantics of
`qegraph.ops`, and `exact` without rounding; `judge` compares; `shrink` and `script` show what is wrong.
"""

from qegraph.prove.proof import Proof, prove

__all__ = ["Proof", "prove"]
