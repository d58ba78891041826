"""Facts about e-classes that guards read: the rules that derive them. Declared in `qegraph.lang.relations`.

`dtype` and `shape` may never be set to two different values (`:no-merge`): an unsound rule is caught here.
"""

from __future__ import annotations

from collections.abc import Iterator

from qegraph.kernels import (
    FLOATS,
    MAX_REDUCTION,
    WEIGHT_ONLY4_BLOCK,
    WEIGHT_ONLY_DEPTH,
    WEIGHT_ONLY_REDUCTION,
    WEIGHTS,
    Kernels,
    accepting,
    activations,
    adds_in_32_bits,
    optional_kernels,
)
from qegraph.lang.relations import DECLARATIONS

RANGES = {"uint8": (0, 255), "int8": (-128, 127)}

# Quantization parameters, kinds and functions.
_DATA = f"""
(= q (PerTensor s z lo hi d)) => (set (q-dtype q) d) (set (storage q) "codes") (per-tensor q) (along-outputs q)
(= q (PerTensor s z lo hi d)) => (set (step q) s)
(= q (PerTensor s z lo hi d)) (> s 0.0) (< s 1e30) => (positive q)
(= q (PerTensor s 0 lo hi d)) => (symmetric q)
(= q (PerTensor s z lo hi d)) (= lo (dtype-low d)) (= hi (dtype-high d)) => (spans-dtype q)
(= q (PerTensor s z lo hi d)) (= l (dtype-low d)) => (bytes q)
(= q (PerTensor s z lo hi d)) (= z lo) => (saturates-at-zero q)
(= q (PerChannel s z a lo hi d)) => (set (q-dtype q) d) (set (storage q) "codes-per-channel")
(= q (PerChannel s z 0 lo hi d)) => (along-outputs q)
(= q (PerChannel s z a lo hi d)) (zeros z) => (symmetric q)
(= q (Float8 s)) => (set (q-dtype q) "float8_e4m3fn") (set (storage q) "float8") (per-tensor q) (along-outputs q) (symmetric q) (spans-dtype q)
(= q (Float8 s)) (> s 0.0) (< s 1e30) => (positive q)
(= q (JoinedParams p r n m)) (= d (q-dtype p)) => (set (q-dtype q) d) (set (storage q) "codes-per-channel")
(= q (Dynamic s z lo hi d)) => (set (q-dtype q) d) (set (storage q) "dynamic") (per-tensor q)
(= q (Dynamic s z lo hi d)) (= lo (dtype-low d)) (= hi (dtype-high d)) => (spans-dtype q)
(= "codes" (storage q)) => (set (family q) "integer")
(= "dynamic" (storage q)) => (set (family q) "integer")
(= "float8" (storage q)) => (set (family q) "float8")
(= q (Real d)) => (set (storage q) d)
(= q (Absent)) => (set (storage q) "absent")
(= q (PerTensor s z lo hi d)) (= l (vec-empty)) => (set (layout q) l)
(= q (PerChannel s z a lo hi d)) (= l (vec-empty)) => (set (layout q) l)
(= q (Float8 s)) (= l (vec-empty)) => (set (layout q) l)
(= q (Blocks4 s z c)) (= t (shape s)) (= l (vec-set t 0 1)) => (set (layout q) l)
(= q (Groups4 s g)) (constant s) (= t (shape s)) (= l (vec-push (vec-set t 1 1) g)) => (set (layout q) l)
(= q (JoinedParams p r n m)) (= l (layout p)) => (set (layout q) l)
(= q (Scaled p c)) (= d (q-dtype p)) => (set (q-dtype q) d)
(= q (CutParams p a n)) (= d (q-dtype p)) => (set (q-dtype q) d) (set (storage q) "codes-per-channel")
(= k (Linear)) => (set (kind-name k) "linear") (set (spatial-dims k) 0) (set (block k) 1)
(= k (Linear4)) => (set (kind-name k) "linear4") (set (block k) 1)
(= k (WeightOnly4)) => (set (kind-name k) "weight-only4") (set (block k) {WEIGHT_ONLY4_BLOCK})
(= k (Conv s p d g)) (= n (vec-length s)) => (set (spatial-dims k) n)
(= k (Conv s p d g)) (= 1 (vec-length s)) => (set (kind-name k) "conv1d")
(= k (Conv s p d g)) (= 2 (vec-length s)) => (set (kind-name k) "conv2d")
(= k (Conv s p d g)) (= 3 (vec-length s)) => (set (kind-name k) "conv3d")
(= k (Conv s (vec-of 0) d g)) => (unpadded k)
(= k (Conv s (vec-of 0 0) d g)) => (unpadded k)
(= k (Conv s (vec-of 0 0 0) d g)) => (unpadded k)
(= f (Fn n a b)) (!= n "clamp") => (set (fn-name f) n)
(= f (Fn "clamp" 0.0 inf)) => (set (fn-name f) "relu")
(= f (Fn "clamp" a b)) (!= a 0.0) => (set (fn-name f) "clamp")
(= f (Fn "clamp" a b)) (!= b inf) => (set (fn-name f) "clamp")
(= f (Fn "sigmoid" 0.0 0.0)) => (gates f (Fn "silu" 0.0 0.0))
(= f (Fn "hardsigmoid" 0.0 0.0)) => (gates f (Fn "hardswish" 0.0 0.0))
(= e (Mul x (Scalar a))) (= (dtype x) "float32") => (moves-out x a)
(= e (Mul x (Scalar 0.5))) (= (dtype x) "bfloat16") => (moves-out x 0.5)
(= m (View s)) => (keeps-order m s)
(= m (Expand s)) => (keeps-order m s)
"""  # noqa: E501

# Shapes and dtypes of values that rules introduce.
_TENSORS = """
(= s (shape x)) => (set (rank x) (vec-length s))
(= s (shape x)) (= n (vec-length s)) (> n 0) (= d (vec-get s (- n 1))) => (set (last-dim x) d)
(= e (Quantize x q)) (= s (shape x)) (= d (q-dtype q)) => (set (shape e) s) (set (dtype e) d)
(= e (Dequantize x q t)) (= s (shape e)) (= d (q-dtype q)) => (set (shape x) s) (set (dtype x) d)
(= e (Dequantize x q t)) (= s (shape x)) => (set (shape e) s) (set (dtype e) t)
(= e (Filled s v t)) => (set (shape e) s) (set (dtype e) t) (constant e)
(= e (OffsetBias b w q s z)) (= v (shape w)) (= n (vec-get v 0)) => (set (shape e) (vec-of n)) (set (dtype e) "float32") (constant e)
(= e (PadCodes x p v)) (= s (shape x)) (= d (dtype x)) (= y (vec-set (vec-set s 2 (+ (vec-get s 2) (* 2 (vec-get p 0)))) 3 (+ (vec-get s 3) (* 2 (vec-get p 1))))) (> (vec-get s 2) 0) (> (vec-get s 3) 0) => (set (shape e) y) (set (dtype e) d)
(= e (QGemm (Linear) x qx w qw b o qo f q)) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y)
(= e (QGemm k x qx w qw b o qo f (Real d))) => (set (dtype e) d)
(= e (QGemm k x qx w qw b o qo f q)) (= d (q-dtype q)) => (set (dtype e) d)
(= e (Flip x)) (= s (shape x)) => (set (shape e) s)
(= e (Flip x)) (= s (shape e)) => (set (shape x) s)
(= e (Flip x)) (= (dtype x) "int8") => (set (dtype e) "uint8")
(= e (Flip x)) (= (dtype x) "uint8") => (set (dtype e) "int8")
(= e (Flip x)) (= (dtype e) "int8") => (set (dtype x) "uint8")
(= e (Joined x y n m)) => (constant e)
(= e (Joined x y n m)) (= s (shape x)) (= d (dtype x)) (= t (vec-set s 0 (+ n m))) => (set (shape e) t) (set (dtype e) d)
(= e (Joined x y n m)) (= s (shape y)) (= d (dtype y)) (= t (vec-set s 0 (+ n m))) => (set (shape e) t) (set (dtype e) d)
(= e (Cut x a n)) => (constant e)
(= e (Cut x a n)) (= s (shape x)) (= d (dtype x)) (= t (vec-set s 0 n)) => (set (shape e) t) (set (dtype e) d)
(= e (Softmax x c m)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (QBinary f x qx y qy q)) (= s (shape x)) (= d (q-dtype q)) => (set (shape e) s) (set (dtype e) d)
(= e (QGemm (Linear4) x qx w qw b o qo f (Real d))) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (* 2 (* (vec-get v 0) (vec-get v 3))))) => (set (shape e) y) (set (dtype e) d)
(= e (QGemm (WeightOnly4) x qx w qw b o qo f q)) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y)
(= e (Part x a n)) (= s (shape x)) (= d (dtype x)) (= t (vec-push (vec-pop s) n)) => (set (shape e) t) (set (dtype e) d)
(= e (WeightOnly x w c)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (IntMatmul x y z)) (= s (shape x)) (= v (shape y)) (= r (vec-push (vec-pop s) (vec-get v 1))) => (set (shape e) r) (set (dtype e) "int32")
(= e (Unary f x)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Gemm (Linear) x w b)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (Cast x d)) (= s (shape x)) => (set (shape e) s) (set (dtype e) d)
(= e (Cast x d)) (= s (shape e)) => (set (shape x) s)
(= e (Add x y)) (= d (dtype x)) (= d (dtype y)) => (set (dtype e) d)
(= e (Add x y)) (= "float32" (dtype x)) (half-dtype (dtype y)) (= r (rank x)) (> r 0) => (set (dtype e) "float32")
(= e (Mul x (Scalar a))) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x y)) (= s (shape x)) (= s (shape y)) (= d (dtype x)) (= d (dtype y)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x c)) (= n (last-dim x)) (= (shape c) (vec-of n)) (= s (shape x)) (= d (dtype x)) (= d (dtype c)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x r)) (one-element r) (= s (shape x)) (> (vec-length s) 1) (= d (dtype x)) (= d (dtype r)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x r)) (= s (shape x)) (> (vec-length s) 0) (= (shape r) (vec-push (vec-pop s) 1)) (= d (dtype x)) (= d (dtype r)) => (set (shape e) s) (set (dtype e) d)
(= e (Add x c)) (= n (last-dim x)) (= (shape c) (vec-of n)) (= s (shape x)) (= d (dtype x)) (= d (dtype c)) => (set (shape e) s) (set (dtype e) d)
(= e (Cat x y k)) (= s (shape x)) (= t (shape y)) (= a (vec-get s k)) (= b (vec-get t k)) (>= a 0) (>= b 0) (= d (dtype x)) (= d (dtype y)) (= r (vec-set s k (+ a b))) => (set (shape e) r) (set (dtype e) d)
(= e (Moved (View s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (Expand s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (Rearrange n u o) x)) (= d (dtype x)) => (set (dtype e) d)
(= e (Pad x a v)) (= d (dtype x)) => (set (dtype e) d)
(= e (QGemm (Conv st pd dl g) x qx w qw b o qo f q)) (= s (shape x)) (= 4 (vec-length s)) (= v (shape w)) (= h (vec-get s 2)) (> h 0) (= l (vec-get s 3)) (> l 0) (= y (vec-of (vec-get s 0) (vec-get v 0) (+ 1 (/ (- (+ h (* 2 (vec-get pd 0))) (+ 1 (* (vec-get dl 0) (- (vec-get v 2) 1)))) (vec-get st 0))) (+ 1 (/ (- (+ l (* 2 (vec-get pd 1))) (+ 1 (* (vec-get dl 1) (- (vec-get v 3) 1)))) (vec-get st 1))))) => (set (shape e) y)
"""  # noqa: E501

# Constants: what is known when the graph is emitted, and where they stand for output channels.
_CONSTANTS = f"""
(= e (Nothing)) => (constant e) (float32-or-nothing e)
(= (dtype e) "float32") (constant e) => (float32-or-nothing e)
(= e (Joined x y n m)) (float32-or-nothing x) (float32-or-nothing y) => (float32-or-nothing e)
(= e (Cast x t)) (constant x) => (constant e)
(= e (Moved (View a) x)) (constant x) => (constant e)
(= e (Moved (Permute a) x)) (constant x) => (constant e)
(= e (Cat x y d)) (constant x) (constant y) => (constant e)
(= e (Product x c)) (constant x) (constant c) => (constant e)
(= e (Total x c)) (constant x) (constant c) => (constant e)
(= e (Cast x t)) (one-element x) => (one-element e)
(= (shape e) (vec-empty)) => (one-element e)
(= (shape e) (vec-of 1)) => (one-element e)
(= (shape e) (vec-of 1 1)) => (one-element e)
(constant w) (= (dtype w) "int8") (= 2 (rank w)) (<= (last-dim w) {WEIGHT_ONLY_REDUCTION}) => (weight-only-fits w "float32") (weight-only-fits w "float16")
(weight-only-fits w "float32") (= 0 (% (last-dim w) {WEIGHT_ONLY_DEPTH})) => (weight-only-fits w "bfloat16")
(= e (Gemm (Linear) x (Cast w t) (Nothing))) (constant w) (= (dtype w) "int8") => (scalable e)
(absorbs e) => (scalable e)
(= e (Mul x y)) (absorbs x) (= (shape x) (shape e)) => (scalable e)
(= e (Cast x t)) (scalable x) => (scalable e)
(= e (Gemm k x (Cast w t) b)) (= b (Nothing)) => (bias-fits b w)
(= e (Gemm k x (Cast w t) b)) (= v (shape w)) (= n (vec-get v 0)) (= (shape b) (vec-of n)) (= (dtype b) "float32") => (bias-fits b w)
"""  # noqa: E501

# What the int8 kernels need to know about their operands.
_KERNEL = """
(= e (Gemm k x (Dequantize w q t) b)) (= b (Nothing)) => (bias-fits b w)
(= e (Gemm k x (Dequantize w q t) b)) (= v (shape w)) (= n (vec-get v 0)) (= (shape b) (vec-of n)) (float-dtype (dtype b)) => (bias-fits b w)
(= e (QGemm k x qx w qw b o qo f (Real "float32"))) (per-tensor qx) => (from-accumulator e)
(= e (Moved m x)) (from-accumulator x) => (from-accumulator e)
(= e (QGemm k x qx w qw b o qo (Fn "identity" 0.0 0.0) (Real "float32"))) (per-tensor qx) => (absorbs e)
(= e (Cast x d)) (absorbs x) => (absorbs e)
(= e (Moved m x)) (absorbs x) => (absorbs e)
(= e (Dequantize w (PerTensor s z lo hi d) t)) (constant w) (> s 1e-30) => (scales-fit (PerTensor s z lo hi d) w)
(= e (Dequantize w (Float8 s) t)) (constant w) (> s 1e-30) => (scales-fit (Float8 s) w)
(= e (Dequantize w (PerChannel s z a lo hi d) t)) (sound-scales s) (= v (shape w)) (= n (vec-get v a)) (= (shape s) (vec-of n)) => (scales-fit (PerChannel s z a lo hi d) w)
(= e (Moved (View a) w)) (= 2 (rank w)) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Moved (Expand a) w)) (= 2 (rank w)) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Moved (View a) x)) (stacks x w) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Moved (Expand a) x)) (stacks x w) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Quantize x (PerTensor s z lo hi d))) (>= lo 0) (< hi 128) => (below-128 e)
(= e (Quantize x (Dynamic s z lo hi d))) (>= lo 0) (< hi 128) => (below-128 e)
(= e (Moved m x)) (below-128 x) => (below-128 e)
(= e (Pad x a v)) (below-128 x) (>= v 0.0) (< v 128.0) => (below-128 e)
(= e (MaxPool x a b c d f)) (below-128 x) => (below-128 e)
(= e (Cat x y d)) (below-128 x) (below-128 y) => (below-128 e)
(= e (Part x a n)) (below-128 x) => (below-128 e)
(= e (Unary (Fn "clamp" a b) x)) (= (dtype x) "uint8") (< b 128.0) => (below-128 e)
(= e (Unary (Fn "clamp" a b) x)) (below-128 x) (< a 128.0) => (below-128 e)
(= e (Unary (ClampCodes a b (PerTensor s z lo hi d)) x)) (below-128 x) (< hi 128) => (below-128 e)
(= e (Unary (ClampCodes 0.0 b (PerTensor s z lo hi d)) x)) (below-128 x) (< z 128) => (below-128 e)
"""  # noqa: E501

# Linears on the same activation, in the order of the source: `place` is an e-class's last source value, that of a
# joined one its last part's; `parts` is how many linears of the source a weight is of. Those whose weights can't be
# joined (no constant, no layout) are passed over: the parts a linear was cut into, too, or they would become it again.
_SIBLINGS = """
(= e (N i)) (= e (QGemm k x qx w qw b (Nothing) (Absent) f q)) (joins (kind-name k)) (constant w) (float32-or-nothing b) (constant b) (= l (layout qw)) => (set (place e) i) (set (parts w) 1)
(= e (Part x a n)) (= i (place e)) => (set (place x) i)
(= e (Joined w v n m)) (= a (parts w)) (= b (parts v)) => (set (parts e) (+ a b))
(= i (place e)) (= e (N i)) (= j (place g)) (= g (N j)) (= e (QGemm k x qx w qw b (Nothing) (Absent) f q)) (= g (QGemm k x qx v qv c (Nothing) (Absent) f q)) (< i j) (= l (layout qw)) (= l (layout qv)) => (set (next-sibling k x qx f q l i) j)
"""  # noqa: E501

_FLOAT8 = "(= e (Dequantize x q t)) (= q (Float8 s)) => (exact-here x q)"
# An integer product is one of codes with scale 1; the terms are made so that guards find facts about them.
_INTEGER_CODES = "(PerTensor 1.0 z lo hi d)"
_INTEGER = (
    "(= e (IntMatmul x y z)) (constant y) (= d (dtype x)) (= lo (dtype-low d)) (= hi (dtype-high d)) => "
    f"(exact-here x {_INTEGER_CODES}) (constant (Moved (Permute (vec-of 1 0)) y))"
)

_EXACT_HERE = "(= e (Dequantize x q t)) (per-tensor q) => (exact-here x q)"
_EXACT_BELOW_128 = "(= e (Dequantize x q t)) (per-tensor q) (below-128 x) => (exact-here x q)"

RULESET = "facts"


def statements(kernels: Kernels) -> Iterator[str]:
    """egglog text of all declarations, tables and derivations, where these kernels can be called."""
    yield from DECLARATIONS.strip().splitlines()
    yield f"(ruleset {RULESET})"
    for dtype, (low, high) in RANGES.items():
        yield f'(set (dtype-low "{dtype}") {low})'
        yield f'(set (dtype-high "{dtype}") {high})'
    for row in _rows(kernels):
        yield f"({row[0]} {' '.join(map(_quoted, row[1:]))})"
    exact = (_EXACT_HERE, _INTEGER) if adds_in_32_bits() else (_EXACT_BELOW_128,)
    texts = (_DATA, _TENSORS, _CONSTANTS, _KERNEL, _SIBLINGS, _FLOAT8, *exact)
    lines = [*(line for text in texts for line in text.splitlines()), *_permuted_shapes(), *_reductions()]
    lines += [*_per_output(), *_not_empty(), *_pads_well(), *_windows(), *_spread()]
    for number, line in enumerate(filter(None, lines)):
        body, _, head = line.partition(" => ")
        yield f'(rule ({body}) ({head}) :ruleset {RULESET} :name "fact-{number}")'


def _rows(kernels: Kernels) -> Iterator[tuple[str, ...]]:
    """(relation, entries...) of what dtypes and kernels there are."""
    present = tuple(optional_kernels())
    yield from (("float-dtype", dtype) for dtype in FLOATS)
    yield from (("half-dtype", dtype) for dtype in FLOATS[1:])
    yield from (("accepts", *row) for row in accepting(kernels))
    yield from (("reads", *row) for row in activations())
    yield from (("reads-weights", *row) for row in WEIGHTS)
    yield from (("sums-rows", dtype) for dtype in ("int8", "float8_e4m3fn"))
    yield from (("attends", dtype) for dtype in ("uint8", "float8_e4m3fn"))
    yield from (("present", name) for name in present)
    yield from (("joins", kind) for kind in ("linear", "weight-only4"))
    if "da8w4_linear" in present:
        yield ("joins", "linear4")


def _permuted_shapes() -> Iterator[str]:
    """shape(permute(p, x))[i] = shape(x)[p[i]], written out for each rank: egglog has no map over vectors."""
    for rank in range(1, 7):
        dims = " ".join(f"(vec-get s (vec-get p {i}))" for i in range(rank))
        yield (
            f"(= e (Moved (Permute p) x)) (= {rank} (vec-length p)) (= s (shape x)) (= d (dtype x)) "
            f"(= y (vec-of {dims})) => (set (shape e) y) (set (dtype e) d)"
        )
        back = " ".join(f"(= {i} (vec-get p (vec-get r {i})))" for i in range(rank))
        lengths = f"(= {rank} (vec-length p)) (= {rank} (vec-length r))"
        yield f"(= m (Permute p)) (= n (Permute r)) {lengths} {back} => (inverse m n)"
        last = rank - 1
        yield f"(= m (Permute p)) (> (vec-length p) {last}) (= a (vec-get p {last})) => (set (position m a) {last})"


def _reductions() -> Iterator[str]:
    """The length of the sums a constant weight (O, I, k...) takes part in, I * k..., is within the limit."""
    for rank in range(2, 6):
        length = "1"
        for i in range(1, rank):
            length = f"(* {length} (vec-get s {i}))"
        yield f"(constant w) (= s (shape w)) (= {rank} (vec-length s)) (<= {length} {MAX_REDUCTION}) => (accumulates w)"


def _per_output() -> Iterator[str]:
    """`per-output c d n`: the constant c has n numbers, along the one dim that d dims stand behind."""
    for before in range(3):
        for behind in range(4):
            ones = "".join(f" (= 1 (vec-get s {i}))" for i in range(before + behind + 1) if i != before)
            yield (
                f"(constant c) (= s (shape c)) (= {before + behind + 1} (vec-length s)) (= n (vec-get s {before}))"
                f"{ones} => (per-output c {behind} n)"
            )


def _not_empty() -> Iterator[str]:
    """What kernels may read has no dim of size 0; one that isn't known is not taken for one."""
    for rank in range(1, 7):
        dims = " ".join(f"(!= 0 (vec-get s {i}))" for i in range(rank))
        for reader in ("(Dequantize x q t)", "(IntMatmul x y z)", "(Gemm k x w b)"):
            yield f"(= e {reader}) (= s (shape x)) (= {rank} (vec-length s)) {dims} => (not-empty x)"


def _pads_well() -> Iterator[str]:
    """The zero point is 0, or the padding of each dim is smaller than the window."""
    product = "(= e (Gemm k (Dequantize x q t) (Dequantize w p u) b))"
    yield f"{product} (= k (Linear)) => (pads-well k q w)"
    yield f"{product} (symmetric q) => (pads-well k q w)"
    for rank in (1, 2, 3):
        dims = " ".join(f"(<= (vec-get pd {i}) (* (vec-get dl {i}) (- (vec-get v {i + 2}) 1)))" for i in range(rank))
        windows = f"(= k (Conv st pd dl g)) (= {rank} (vec-length pd)) (= v (shape w))"
        yield f"{product} {windows} {dims} => (pads-well k q w)"


def _windows() -> Iterator[str]:
    """What oneDNN's convolutions get right; sizes that aren't known are negative.

    steps-inside  no step of a window is longer than the image, or it has no steps, as it must in three dims.
    deep-enough   an image in three dims isn't padded at both sides of a depth of 1.
    wide-enough   a window that moves on by more than 1 in the last dim does so at least once, or moves in no other.
    """
    product = "(= e (Gemm k (Dequantize x q t) (Dequantize w p u) b))"
    yield f"{product} (= k (Linear)) => (steps-inside k x w) (deep-enough k x) (wide-enough k x w)"
    for rank in (1, 2, 3):
        sizes = f"(= k (Conv st pd dl g)) (= {rank} (vec-length dl)) (= v (shape w)) (= a (shape x))"
        given, last = f"{product} {sizes} (= {rank + 2} (vec-length a))", rank - 1
        steps = [f"(* (- (vec-get dl {i}) 1) (- (vec-get v {i + 2}) 1))" for i in range(rank)]
        longer = [f"(- (vec-get dl {i}) (vec-get a {i + 2}))" for i in range(rank)]
        inside = [f"(min {each} {more})" for each, more in zip(steps, longer, strict=True)] if rank < 3 else steps
        yield f"{given} {' '.join(f'(<= {each} 0)' for each in inside)} => (steps-inside k x w)"
        padded = "(<= (min (vec-get pd 0) (- 2 (vec-get a 2))) 0)" if rank == 3 else ""
        yield f"{given} {padded} => (deep-enough k x)"
        elsewhere = "0"
        for i in range(last):
            elsewhere = f"(+ {elsewhere} {_moves(i, at_most=False)})"
        strided = f"(* (- (vec-get st {last}) 1) (- (vec-get v {last + 2}) 1))"
        none = f"(- 1 {_moves(last, at_most=True)})"
        yield f"{given} (<= (min (* {strided} {elsewhere}) {none}) 0) => (wide-enough k x w)"


def _moves(i: int, at_most: bool) -> str:
    """How often a window moves on in a dim. Where its size isn't known: at most 0, or else something positive."""
    size = f"(vec-get a {i + 2})"
    room = f"(- (+ {size} (* 2 (vec-get pd {i}))) (+ 1 (* (vec-get dl {i}) (- (vec-get v {i + 2}) 1))))"
    moves = f"(/ {room} (vec-get st {i}))"
    return f"(* (max 0 (min 1 {size})) {moves})" if at_most else f"(max (- 1 {size}) {moves})"


def _spread() -> Iterator[str]:
    """A constant expanded to known sizes is one; sizes that aren't known are negative."""
    for rank in range(1, 7):
        known = " ".join(f"(>= (vec-get a {i}) 0)" for i in range(rank))
        yield f"(= e (Moved (Expand a) x)) (constant x) (= {rank} (vec-length a)) {known} => (constant e)"


def _quoted(text: str) -> str:
    return f'"{text}"'
