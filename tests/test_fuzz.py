"""The fuzzer: what it draws, what it takes for wrong, that it finds what is, and scripts that show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import OUT, QP, Conv, Weight, checked, fq, has, int8_first, kinds, net, q, stays_float, usual
from mutants import MUTANTS
from torch import Tensor, fx

import qegraph
from qegraph import cli
from qegraph.coverage.parts import Net, qd
from qegraph.errors import QegraphError
from qegraph.fuzz import KINDS, Finding, Program, Settings, Spelling, check, grow, script, shrunk
from qegraph.fuzz.check import optimized
from qegraph.fuzz.judge import disagrees
from qegraph.fuzz.respell import other_batches, respelled
from qegraph.fuzz.run import run
from qegraph.fuzz.state import State, load
from qegraph.fuzz.truth import truth
from qegraph.load_rules import select
from qegraph.progress import SILENT

aten: Any = torch.ops.aten
Build = Callable[[fx.Graph, fx.Node], fx.Node]
QUICK = 12
"""Programs of the default run."""

UNSOUND = '''
from qegraph.lang import Tensor, relu, rewrite, rule, unary
from qegraph.lang.rule import Rewrite


@rule
def relu_is_nothing(x: Tensor) -> Rewrite:
    """relu(x) = x, which it isn't"""
    return rewrite(unary(relu(), x)).to(x)
'''


def graph_of(build: Build, constants: dict[str, Tensor] | None = None) -> fx.GraphModule:
    """The graph of build(graph, input)."""
    graph = fx.Graph()
    graph.output(build(graph, graph.placeholder("x")))
    return fx.GraphModule(constants or {}, graph)


def examined(seeds: Sequence[int], settings: Settings) -> Counter[str]:
    """How many outcomes of each sort; a finding fails the test with its script."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        program = grow(seed)
        outcome = check(program, settings, seed)
        if outcome.finding is not None:
            smaller, finding = shrunk(program, outcome.finding, settings)
            pytest.fail(f"seed {seed}: {outcome.finding.what}\n{script(smaller, finding)}")
        counts.update(["decided" if outcome.decided else "open", *(["undecided"] if outcome.undecided else [])])
    return counts


def test_programs_agree() -> None:
    counts = examined(range(QUICK), Settings(shaken=2))
    assert counts["decided"] >= 0.8 * QUICK and counts["undecided"] <= 0.05 * QUICK


@pytest.mark.zoo
def test_many_programs_agree() -> None:
    """With at least 20 random forms of each."""
    counts = examined(range(200), Settings(shaken=20))
    assert counts["decided"] >= 160 and counts["undecided"] <= 8


SPELLINGS: tuple[Spelling, ...] = ("decomposed", "written out", "any batch")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_agree(spelling: Spelling) -> None:
    counts = examined(range(3), Settings(shaken=1, spelling=spelling))
    assert counts["undecided"] == 0


def test_spellings_are_what_they_say() -> None:
    program = grow(1)  # quantizes, and its inputs have batches of 2 and 1
    names = {each: str(respelled(program, each).graph) for each in SPELLINGS}
    assert "quantize_per_tensor" in names["decomposed"] and "quantize_per_tensor" not in names["written out"]
    assert "aten.round" in names["written out"]


def test_other_batches_are_tried() -> None:
    module = graph_of(lambda graph, x: graph.call_function(aten.relu.default, (x,)))
    given = respelled(Program(module, (torch.randn(2, 4),)), "any batch")
    assert [each.shape[0] for (each,) in other_batches(given, (torch.randn(2, 4),))] == [3, 5]
    baked = graph_of(lambda graph, x: graph.call_function(aten.view.default, (x, [8])))
    given = respelled(Program(baked, (torch.randn(2, 4),)), "any batch")
    assert list(other_batches(given, (torch.randn(2, 4),))) == []


def test_a_seed_is_a_program() -> None:
    code = "from qegraph.fuzz import grow; print(*(grow(seed).module.code for seed in range(4)))"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.strip() == " ".join(grow(seed).module.code for seed in range(4)).strip()


def test_all_kinds_are_drawn() -> None:
    assert len(KINDS) >= 40
    assert set(KINDS) == {kind for seed in range(250) for kind in grow(seed).kinds}


def test_programs_have_what_is_rare() -> None:
    programs = [grow(seed) for seed in range(250)]
    placeholders = [{node.name for node in each.module.graph.nodes if node.op == "placeholder"} for each in programs]
    returned = [[node.name for node in each.module.graph.output_node().all_input_nodes] for each in programs]
    assert any(set(given) & set(names) for given, names in zip(placeholders, returned, strict=True))
    assert any(len(names) > 2 for names in returned)
    assert any(0 in tensor.shape for each in programs for tensor in each.inputs)
    assert any(tensor.dtype != torch.float32 for each in programs for tensor in each.inputs)
    assert any(not tensor.is_contiguous() for each in programs for tensor in each.inputs)


# -- what is wrong -----------------------------------------------------------------------------------------------------


def _doubly_quantized(scale: float) -> fx.GraphModule:
    """A quantizer whose codes decide another one's."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        first = graph.call_function(qd.quantize_per_tensor.default, (x, scale, 0, -128, 127, torch.int8))
        read = graph.call_function(qd.dequantize_per_tensor.default, (first, scale, 0, -128, 127, torch.int8))
        scaled = graph.call_function(aten.mul.Tensor, (read, 9.7))
        return graph.call_function(qd.quantize_per_tensor.default, (scaled, 0.13, 3, -128, 127, torch.int8))

    return graph_of(build)


def test_ties_are_seen() -> None:
    module = _doubly_quantized(0.1)
    assert truth(module, (torch.tensor([0.31, -0.72, 0.999]),)).decided
    assert truth(module, (torch.tensor([0.31, 0.25, 0.35]),)).ties >= 1  # 2.5 codes, and 3.5 but for rounding


def test_a_code_at_the_border_is_no_tie() -> None:
    """Beyond the range everything is clamped to the same code."""
    assert truth(_doubly_quantized(0.001), (torch.tensor([5.0005, -7.0005]),)).decided


def test_only_roundings_are_forgiven() -> None:
    module = graph_of(lambda graph, x: graph.call_function(aten.sub.Tensor, (x, 1.0)))
    x = torch.tensor([1.0 + 2.0**-20, 4.0])
    known, oracle = truth(module, (x,)), [module(x)]
    assert disagrees(known, oracle, [oracle[0] * (1 + 1e-6)]) is None
    assert str(disagrees(known, oracle, [oracle[0] + 1e-4])).startswith("output 0: off by 0.0001, allowed 3")
    assert disagrees(known, oracle, [oracle[0].double()]) is not None
    assert disagrees(known, oracle, []) == "0 outputs instead of 1"
    assert disagrees(known, oracle, [torch.full((2,), torch.nan)]) is not None


def test_settled_codes_may_be_one_off_once() -> None:
    module = graph_of(
        lambda graph, x: graph.call_function(qd.quantize_per_tensor.default, (x, 0.1, 0, 0, 255, torch.uint8))
    )
    x = torch.linspace(0.01, 3.01, 16)
    known, oracle = truth(module, (x,)), [module(x)]
    one, two = oracle[0].clone(), oracle[0].clone()
    one[3] += 1
    two[3] += 2
    assert disagrees(known, oracle, [one]) is None
    assert disagrees(known, oracle, [two]) == "output 0: off by 2 LSB, 1 of 16 differ"
    one[4] += 1
    assert disagrees(known, oracle, [one]) == "output 0: off by 1 LSB, 2 of 16 differ"


# -- what is found -----------------------------------------------------------------------------------------------------

PLANTED = ("bias-dropped", "post-op-dropped", "flip-keeps-zero-point")


@pytest.mark.parametrize("name", PLANTED)
def test_unsound_rules_are_found(name: str) -> None:
    """Variants of shipped rules, as the proofs are tested with."""
    unsound = next(each.rule for mutants in MUTANTS.values() for each in mutants if each.rule.name == name)
    settings = Settings(["default", unsound], shaken=2, native=False, twice=False)
    outcomes = (check(grow(seed), settings, seed) for seed in range(60))
    found = next((each.finding for each in outcomes if each.finding is not None), None)
    assert found is not None and found.what.startswith("output")


@dataclass(frozen=True)
class Planted:
    """A program that an unsound rule in a file makes wrong."""

    seed: int
    program: Program
    finding: Finding
    settings: Settings


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    path = tmp_path_factory.mktemp("rules") / "unsound.py"
    path.write_text(UNSOUND)
    settings = Settings(["default", str(path)], shaken=0, native=False, twice=False)
    for seed in range(200):
        program = grow(seed)
        if "relu" in program.kinds and 12 < len(program.module.graph.nodes) < 24:
            finding = check(program, settings, seed).finding
            if finding is not None:
                return Planted(seed, program, finding, settings)
    pytest.fail("no program shows it")


def test_findings_shrink_to_scripts(tmp_path: Path, planted: Planted) -> None:
    settings = planted.settings
    smaller, same = shrunk(planted.program, planted.finding, settings)
    assert len(smaller.module.graph.nodes) < 6
    assert sum(each.numel() for each in smaller.inputs) <= 8
    source = script(smaller, same, settings.rules)
    imports = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports <= {"torch", "qegraph", "operator", "sys"}
    path = tmp_path / "shown.py"
    path.write_text(source)
    wrong = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stdout.startswith("output 0: off by"), wrong.stdout + wrong.stderr
    path.write_text(source.replace(repr(settings.rules), "None"))
    sound = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert (sound.returncode, sound.stdout) == (0, "as it should be\n"), sound.stderr


def test_scripts_name_rules_by_text() -> None:
    program = grow(0)
    with pytest.raises(QegraphError, match="rules given as text"):
        script(program, Finding("default", "wrong", program.inputs), select(None))


# -- the command -------------------------------------------------------------------------------------------------------


def test_runs_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    assert cli.main(["fuzz", "--programs", "2", "--seed", "5", "--resume", str(path)]) == 0
    assert cli.main(["fuzz", "--programs", "1", "--resume", str(path)]) == 0
    state = load(path)
    assert (state.first, state.next, state.programs, state.findings) == (5, 8, 3, [])
    assert sum(state.kinds.values()) == sum(len(grow(seed).kinds) for seed in (5, 6, 7))
    assert "5 to 7" in capsys.readouterr().out


def test_findings_are_kept(tmp_path: Path, planted: Planted) -> None:
    path, state = tmp_path / "state.json", State(first=planted.seed, next=planted.seed)
    run(state, SILENT, programs=1, settings=planted.settings, path=path)
    (found,) = load(path).findings
    assert found.seed == planted.seed and "relu" in found.script


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", json.dumps({"format": 0}), json.dumps({"format": 1, "findings": [1]})]
)
def test_bad_states_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(QegraphError, match="can't be resumed"):
        load(path)


# -- what it has found -------------------------------------------------------------------------------------------------


def test_one_dim_convolutions_have_their_sizes_when_compiled() -> None:
    """torch's fake kernel takes the window of a packed 1-d weight for 1."""
    module = net(lambda conv, x: fq(conv(fq(x)), OUT).flatten(1), [Conv(1)], [torch.randn(2, 8, 7)])
    x = torch.randn(2, 8, 7)
    fast = qegraph.optimize(module, cost=int8_first)
    assert kinds(fast) == ["qconv_pointwise.default"]
    compiled = torch.compile(fast, backend="aot_eager")
    assert torch.equal(compiled(x), fast(x))


def test_optimized_graphs_are_read_again_without_shapes() -> None:
    """Packed weights are real tensors between fake ones, and some values are in no source."""
    x = torch.randn(2, 8, 7, 7)
    exported = net(lambda conv, x: fq(conv(fq(x)), QP(0.037, 91, 3, 200)), [Conv(2)], [x])
    for node in exported.graph.nodes:
        node.meta.pop("val", None)
    fast = qegraph.optimize(exported, (x,), cost=int8_first)
    assert torch.equal(qegraph.optimize(fast, (x,))(x), fast(x))


READS_BY_PLACE: dict[str, Build] = {
    "as_strided": lambda graph, x: graph.call_function(aten.as_strided.default, (x, [16, 4], [1, 16])),
    "bits": lambda graph, x: graph.call_function(aten.view.dtype, (x, torch.int16)),
    "int8pack": lambda graph, x: graph.call_function(
        aten._weight_int8pack_mm.default, (x, graph.get_attr("w"), graph.get_attr("s"))
    ),
}


@pytest.mark.parametrize("name", READS_BY_PLACE)
@pytest.mark.parametrize("dense", [aten.contiguous.default, aten.clone.default])
def test_what_reads_by_place_has_dense_operands(name: str, dense: Any) -> None:
    """The e-graph knows nothing of strides, so it took the call away that made the operand dense."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        options: Any = {"memory_format": torch.contiguous_format} if dense is aten.clone.default else {}
        moved = graph.call_function(dense, (graph.call_function(aten.permute.default, (x, [1, 0])),), options)
        return READS_BY_PLACE[name](graph, moved)

    module = graph_of(build, {"w": torch.randint(-9, 9, (8, 4), dtype=torch.int8), "s": torch.rand(8)})
    x = torch.randn(4, 16)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))
    if name == "int8pack":  # the others have numbers for sizes
        columns = ({1: torch.export.Dim("columns")},)
        exported = torch.export.export(module, (x,), dynamic_shapes=columns, strict=False).module()
        assert torch.equal(qegraph.optimize(exported, (x,))(x), module(x))


def test_a_kernel_is_called_again_on_a_column_that_was_copied_for_it() -> None:
    """A column is contiguous for torch whatever its stride, which the kernel asks for all the same."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        copied = graph.call_function(aten.clone.default, (x,), {"memory_format": torch.contiguous_format})
        return READS_BY_PLACE["int8pack"](graph, copied)

    module = graph_of(build, {"w": torch.randint(-9, 9, (8, 1), dtype=torch.int8), "s": torch.rand(8)})
    x = torch.randn(1, 3).t()
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_kernels_that_read_by_place_are_called_each_as_it_was() -> None:
    """Two calls that are equal but for their operands are one call of the e-graph: it was the first one's, twice."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        rows = graph.call_function(aten.permute.default, (x, [1, 0]))
        copied = graph.call_function(aten.contiguous.default, (rows,))
        first, second = (graph.call_function(aten.as_strided.default, (each, [8], [1])) for each in (x, copied))
        return graph.call_function(aten.cat.default, ([first, second],))

    module, x = graph_of(build), torch.randn(4, 16)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_sizes_that_no_input_has_are_computed() -> None:
    class Longer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Buffer(torch.randn(8))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            longer = torch.nn.functional.pad(x, (0, 0, 1, 2))
            return longer + self.bias.expand(longer.shape[0], 8) * 2, self.bias.expand(3, 2 * x.shape[0], 8)

    x = torch.randn(4, 8)
    exported = torch.export.export(Longer(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fast = qegraph.optimize(exported, (x,))
    twice = qegraph.optimize(fx.GraphModule(fast, fast.graph), (x,))
    for x in (torch.randn(2, 8), torch.randn(7, 8)):
        for found in (fast(x), twice(x)):
            assert all(map(torch.equal, found, exported(x)))


@dataclass(frozen=True)
class Windows:
    """Of a convolution with 8 channels; `reason` is the start of the guard's message, empty where int8 is right."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: int = 1
    reason: str = ""


STEPS, DEEP, WIDE = "a dilated window must not", "a padded image in three dims", "the result of a strided"
WINDOWS = {
    "steps over a row": Windows((2,), (3,), (1,), (3,), 3, STEPS),
    "steps over an image": Windows((2, 5), (3, 1), (1, 1), (3, 0), 3, STEPS),
    "steps inside a row": Windows((3,), (3,), (1,), (3,), 3),
    "steps inside an image": Windows((3, 5), (3, 3), (1, 1), (3, 3), 3),
    "steps inside a volume": Windows((4, 8, 8), (3, 3, 3), (1, 1, 1), (2, 2, 2), 2, STEPS),
    "volume": Windows((4, 8, 8), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "flat volume": Windows((1, 8, 8), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "padded flat volume": Windows((1, 8, 8), (3, 3, 3), (1, 1, 1), (1, 1, 1), 1, DEEP),
    "column": Windows((11, 3), (3, 3), (2, 2), (1, 0), 1, WIDE),
    "column of a volume": Windows((3, 8, 1), (3, 3, 2), (2, 2, 2), (1, 0, 1), 1, WIDE),
    "column of single steps": Windows((11, 3), (3, 3), (1, 1), (1, 0)),
    "column of a narrow window": Windows((11, 1), (3, 1), (2, 2), (1, 0)),
    "one patch": Windows((4, 4), (4, 4), (4, 4), (0, 0)),
    "one number": Windows((3,), (3,), (2,), (0,)),
}
"""What oneDNN's convolutions get wrong, and what is next to it: tests/BUGS.md, D35 and D36."""


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_that_kernels_get_wrong_stay_float(name: str) -> None:
    case = WINDOWS[name]
    conv = Conv(len(case.image), kernel=1)
    conv.weight = Weight(8, 8, *case.kernel)
    conv.options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}  # type: ignore[assignment]
    x = torch.randn(2, 8, *case.image)
    gm = net(lambda conv, x: conv(fq(x, usual(QP(0.031, 0)))), [conv], [x])
    if case.reason:
        assert stays_float(qegraph.optimize(gm, cost=int8_first)).startswith(case.reason)
    else:
        assert has(checked(gm, [x]), "qconv") == 1


@pytest.mark.parametrize("is_strided", [False, True])
def test_windows_of_any_width(is_strided: bool) -> None:
    """A width that isn't known may be one that kernels get wrong."""
    conv, x = Conv(2, options={"stride": 2} if is_strided else None), torch.randn(2, 8, 9, 9)
    module = Net(lambda conv, x: conv(fq(x)), [conv])
    exported = torch.export.export(module, (x,), dynamic_shapes=(({3: torch.export.Dim.AUTO},),)).module()
    assert has(qegraph.optimize(exported, (x,), cost=int8_first), "qconv") == (not is_strided)


def test_half_codes_of_any_batch() -> None:
    """Torch's own kernel for fake values took the symbolic size for the one that the graph was exported with."""

    class Codes(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return q(x.flatten(1, 2))

    x = torch.randn(3, 2, 2).half()
    exported = torch.export.export(Codes(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fast = qegraph.optimize(exported, (x,))
    for x in (torch.randn(2, 2, 2).half(), torch.randn(7, 2, 2).half()):
        assert torch.equal(fast(x), exported(x))


def test_an_operator_that_fixes_a_size() -> None:
    """Its kernel for fake values is wrong; nothing can be said of the sizes behind it, so the graph is kept."""
    fixes = False

    @torch.library.custom_op("qegraph_test_sizes::copied", mutates_args=())
    def copied(x: Tensor) -> Tensor:
        return x.clone()

    @copied.register_fake
    def _(x: Tensor) -> Tensor:
        return x.new_empty([int(size) if fixes else size for size in x.shape])

    class Copied(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return copied(x.flatten(1, 2)) + 1

    x = torch.randn(3, 2, 2)
    exported = torch.export.export(Copied(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fixes = True
    fast = qegraph.optimize(exported, (x,))
    assert "copied.default" in str(qegraph.explain(fast)) and "fixes s" in str(qegraph.explain(fast))
    assert fast(torch.randn(5, 2, 2)).shape == (5, 4)


def test_a_mean_that_keeps_its_dims_has_no_view() -> None:
    module = graph_of(lambda graph, x: graph.call_function(aten.mean.dim, (x, [2, 3], True)))
    fast = qegraph.optimize(module, (torch.randn(2, 3, 4, 4),))
    assert [str(node.target) for node in fast.graph.nodes if node.op == "call_function"] == ["aten.mean.dim"]


def test_a_product_with_a_scalar() -> None:
    """A fact about the last dim of an operand that has none stopped the e-graph."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        largest = graph.call_function(aten.amax.default, (x,))
        return graph.call_function(aten.mul.Tensor, (graph.call_function(aten.mul.Tensor, (largest, largest)), x))

    module, x = graph_of(build), torch.randn(2, 3)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_one_column_has_the_stride_its_kernel_wants() -> None:
    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        matrix = graph.call_function(aten.to.dtype, (graph.get_attr("w"), torch.float32))
        product = graph.call_function(aten.linear.default, (x, matrix))
        return graph.call_function(aten.mul.Tensor, (product, graph.get_attr("s")))

    constants = {"w": torch.randint(-9, 9, (8, 1), dtype=torch.int8), "s": torch.rand(8)}
    module, x = graph_of(build, constants), torch.randn(1, 3).t()
    fast = qegraph.optimize(module, (x,), cost=int8_first)
    assert "_weight_int8pack_mm" in str(fast.graph)
    torch.testing.assert_close(fast(x), module(x))


def test_a_view_of_a_value_without_known_shape() -> None:
    """A mean that is a pooling window, in no source."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        mean = graph.call_function(aten.mean.dim, (x, [-1, -2], False))
        return graph.call_function(aten.relu.default, (mean,))

    module, x = graph_of(build), torch.randn(2, 3, 4, 4)
    for form in ("default", "dearest", "shaken 1", "shaken 2"):
        torch.testing.assert_close(optimized(module, (x,), None, form)(x), module(x))
