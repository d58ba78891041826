"""`qegraph bench --profile`: where the time of one call of a model goes, part by part."""

from .command import DEFAULT as DEFAULT
from .command import run as run
from .split import Part as Part
from .split import Profile as Profile
from .split import split as split
from .verbose import Primitive as Primitive
from .verbose import primitives as primitives
