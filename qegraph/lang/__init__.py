"""The language rules are written in: terms, the vocabulary, guards, `rewrite` and `@rule`."""

from qegraph.lang.define import rule as rule
from qegraph.lang.family_guards import *  # noqa: F403
from qegraph.lang.guards import *  # noqa: F403
from qegraph.lang.kernel_guards import *  # noqa: F403
from qegraph.lang.rule import Guard as Guard
from qegraph.lang.rule import Rule as Rule
from qegraph.lang.rule import rewrite as rewrite
from qegraph.lang.scale_guards import *  # noqa: F403
from qegraph.lang.terms import Dims as Dims
from qegraph.lang.terms import Integer as Integer
from qegraph.lang.terms import Kind as Kind
from qegraph.lang.terms import Move as Move
from qegraph.lang.terms import Number as Number
from qegraph.lang.terms import QParams as QParams
from qegraph.lang.terms import Tensor as Tensor
from qegraph.lang.terms import Text as Text
from qegraph.lang.terms import UnaryFn as UnaryFn
from qegraph.lang.vocabulary import *  # noqa: F403
