"""Where the time goes: the verbose log as it is written, spans that leave nothing out, parts that add up."""

from __future__ import annotations

import pytest
import torch

from qegraph import cli
from qegraph.bench import Settings
from qegraph.bench.profile import Part, Primitive, Profile, primitives, split
from qegraph.bench.profile.measure import one_call, profiles
from qegraph.bench.profile.spans import ENTRY, PYTHON, Event, Overhead, Span, measure_overhead, record, spans
from qegraph.bench.profile.table import profile_tables
from qegraph.bench.profile.worker import average, middle
from qegraph.errors import QegraphError
from qegraph.progress import SILENT

# as oneDNN 3.12 in torch 2.13 writes them
_HEADER = [
    "onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)",
    "onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:1",
    "onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind,memory_descriptors,"
    "attributes,auxiliary,problem_desc,exec_time",
]
_REORDER = (
    "onednn_verbose,v1,primitive,exec,cpu,reorder,jit_direct_copy:uni,undef,"
    "src:f32::blocked:ab::f0 dst:f32::blocked:ab::f0,attr-scratchpad:user,,4x16,0.00317383"
)
_CONVOLUTION = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,brdgmm_dw:avx512_core_vnni,forward_inference,"
    "src:u8::blocked:acdb::f0 wei:s8:ap:blocked:deAbc16a::f0 bia:f32:a:blocked:a::f0 dst:u8::blocked:acdb::f0,"
    "attr-scratchpad:user attr-scales:src0:0:f32+dst:0:f32+wei:3:f32 attr-post-ops:eltwise_clip:0:6,"
    "alg:convolution_direct,g8mb1_ic8oc8_ih16oh16kh3sh1dh0ph1_iw16ow16kw3sw1dw0pw1,0.0148926"
)
_MATMUL = (
    "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx10_1_512,undef,"
    "src:u8:a:blocked:ab::f0 wei:s8:p:blocked:AB16a64b4a::f8:zpm2 bia:f32:a:blocked:ab::f0_mask2 "
    "dst:u8:a:blocked:ab::f0,attr-scratchpad:user attr-scales:src0:0:f32+dst:0:f32+wei:2:f32 "
    "attr-zero-points:dst:0:s32 attr-post-ops:sum:0.0159862,,256x8:8x8,0.0300293"
)
_OTHERS = [
    _MATMUL.replace(",v1,primitive,", ","),  # oneDNN 3.2
    _MATMUL.replace(",v1,", ",v1,1764136766012.85,"),
]
_GRAPH = (
    "onednn_verbose,v1,graph,exec,cpu,100002,matmul_post_ops,matmul;add,,in0_f32:0:strided:undef:2x8,"
    "fpm:strict,fused,dnnl_backend,0.0119629"
)


def test_executions_are_read_from_the_log_and_nothing_else() -> None:
    log = [*_HEADER, _REORDER + "\n", "something else on the output", _CONVOLUTION, _GRAPH, _MATMUL, *_OTHERS]
    reorder, convolution, *matmuls = primitives(log)
    assert reorder.moves and reorder.microseconds == pytest.approx(3.17383)
    problem = "g8mb1_ic8oc8_ih16oh16kh3sh1dh0ph1_iw16ow16kw3sw1dw0pw1"
    assert convolution == Primitive("convolution", "brdgmm_dw:avx512_core_vnni", problem, convolution.microseconds)
    assert convolution.microseconds == pytest.approx(14.8926)
    assert len(matmuls) == 3
    for matmul in matmuls:
        assert (matmul.kind, matmul.problem, matmul.moves) == ("matmul", "256x8:8x8", False)


@pytest.mark.parametrize("line", [_MATMUL + ",more", _MATMUL.replace("0.0300293", "30us"), _MATMUL[:100]])
def test_a_log_in_another_form_is_refused(line: str) -> None:
    with pytest.raises(QegraphError, match="isn't in the form known here"):
        primitives([line])


def _primitive(kind: str, microseconds: float) -> Primitive:
    return Primitive(kind, "jit", "1x1", microseconds)


def test_calls_of_one_log_are_averaged_by_position() -> None:
    logged = [_primitive("matmul", 1.0), _primitive("reorder", 5.0)] * 2
    logged += [_primitive("matmul", 3.0), _primitive("reorder", 7.0)] * 2
    assert [each.microseconds for each in one_call(logged, 4)] == [2.0, 6.0]
    assert one_call([], 4) == []
    for wrong, calls in ((logged[:-1], 4), (logged[:3] + logged[:1], 2)):
        with pytest.raises(QegraphError, match="not the same in each call"):
            one_call(wrong, calls)


def test_the_middle_half_is_not_moved_by_outliers() -> None:
    assert middle([1.0]) == 1.0
    assert middle([2.0, 1000.0, 4.0, 0.0]) == 3.0


_INT8 = Event("onednn::qconv_pointwise", 30.0, 70.0, (Event("aten::to", 31.0, 33.0), Event("aten::empty", 35.0, 38.0)))
_KERNELS = (
    Event("graph_0_cpp_fused_quantize_per_tensor_0", 22.0, 27.0),
    _INT8,
    Event("graph_0_cpp_fused_clone_permute_1", 75.0, 79.0),
    Event("aten::max_pool2d", 90.0, 96.0),
)
_REGION = Event(
    "Torch-Compiled Region: 0/0", 15.0, 115.0, (Event("## Call CompiledFxGraph a ##", 18.0, 108.0, _KERNELS),)
)
_CALL = Event("qegraph.call", 0.0, 130.0, (Event("TorchDynamo Cache Lookup", 4.0, 14.0), _REGION))


def test_spans_leave_nothing_out_but_what_the_profiler_added() -> None:
    plain = spans(_CALL, Overhead(0.0, 0.0))
    assert [each.name for each in plain if each.name not in (PYTHON, ENTRY)] == [
        "graph_0_cpp_fused_quantize_per_tensor_0",
        "onednn::qconv_pointwise",
        "graph_0_cpp_fused_clone_permute_1",
        "aten::max_pool2d",
    ]
    assert sum(each.microseconds for each in plain) == 130.0
    assert sum(each.microseconds for each in plain if each.name == PYTHON) == 90.0 - 55.0
    corrected = spans(_CALL, Overhead(event=1.0, marker=2.0))
    assert sum(each.microseconds for each in corrected) == 130.0 - 2.0 - 1.0 * _CALL.inside
    assert Span("onednn::qconv_pointwise", 38.0) in corrected


def test_without_a_compiler_all_between_operators_is_python() -> None:
    root = Event("qegraph.call", 0.0, 10.0, (Event("onednn::qlinear_pointwise", 2.0, 9.0),))
    found = spans(root, Overhead(0.0, 0.0))
    assert found == [Span(PYTHON, 2.0), Span("onednn::qlinear_pointwise", 7.0), Span(PYTHON, 1.0)]


def test_calls_from_the_cpp_wrapper_have_the_names_of_operators() -> None:
    inside = (Event("quantized::max_pool2d", 2.0, 3.0),)
    names = {"qconv": "qegraph::qconv", "max_pool2d": "aten::max_pool2d", "cat": "aten::cat"}
    for name, operator in names.items():
        root = Event("qegraph.call", 0.0, 10.0, (Event(f"aoti_torch_cpu_{name}", 1.0, 9.0, inside),))
        assert Span(operator, 8.0) in spans(root, Overhead(0.0, 0.0))


def test_parts_add_up_and_calls_know_their_kernels() -> None:
    found = spans(_CALL, Overhead(0.0, 0.0))
    parts, calls = split(found, [_primitive("reorder", 1.5), _primitive("convolution", 30.0)])
    assert parts == {
        Part.KERNELS: 30.0,
        Part.CALLS: 40.0 - 31.5,
        Part.OTHER: 11.0,
        Part.COPIES: 4.0 + 1.5,
        Part.PYTHON: 35.0,
        Part.ENTRY: 40.0,
    }
    profile = Profile("m", "qegraph+compile", 125.0, parts, calls)
    assert profile.total == 130.0
    assert profile.accounted == 130.0 / 125.0
    first, second = profile.dearest(2)
    assert (first.name, first.kernel, first.detail) == ("onednn::qconv_pointwise", 30.0, "jit 1x1")
    assert (second.name, second.kernel) == ("aten::max_pool2d", None)
    shares, dearest = profile_tables(profile)
    assert shares.rows[0] == ("oneDNN kernels", "30", "24.0%")
    assert shares.rows[-2:] == (("sum", "130", "104.0%"), ("latency, not profiled", "125", "100.0%"))
    assert len(dearest.rows) == 4


@pytest.mark.parametrize("name", ["onednn::qlinear_pointwise", "qegraph::qlinear", "aten::mkldnn_convolution"])
def test_operators_of_our_own_count_as_oneDNN_s(name: str) -> None:
    parts, _ = split([Span(name, 10.0)], [_primitive("matmul", 8.0)])
    assert (parts[Part.KERNELS], parts[Part.CALLS]) == (8.0, 2.0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("aten::clone", Part.COPIES),
        ("aten::_to_copy", Part.COPIES),
        ("aten::bmm", Part.OTHER),
        ("quantized::max_pool2d", Part.OTHER),
        ("graph_3_cpp_fused_cat_qlinear_pointwise_view_12", Part.COPIES),
        ("cpp_fused_permute_1", Part.COPIES),
        ("graph_0_cpp_fused_permute_quantize_per_tensor_view_1", Part.OTHER),
        ("graph_0_cpp_fused_add_clone_7", Part.OTHER),
    ],
)
def test_copies_are_told_from_kernels(name: str, part: Part) -> None:
    parts, _ = split([Span(name, 10.0)], [])
    assert parts[part] == 10.0


def test_kernels_that_no_operator_ran_are_an_error() -> None:
    with pytest.raises(QegraphError, match="more than the 10 µs"):
        split([Span("onednn::qlinear_pointwise", 10.0)], [_primitive("matmul", 12.0)])


def test_calls_that_differ_have_no_profile() -> None:
    one, other = [Span("aten::add", 1.0)], [Span("aten::mul", 1.0)]
    assert average([one, [Span("aten::add", 3.0)]]) == [Span("aten::add", 2.0)]
    with pytest.raises(ValueError, match="don't all run the same operators"):
        average([one, other])


def test_the_profiler_is_read_call_by_call_and_its_cost_is_small() -> None:
    overhead = measure_overhead()
    assert 0.0 < overhead.event < 100.0 and 0.0 < overhead.marker < 1000.0
    x = torch.ones(4)
    calls = record(lambda: x.add(1).mul(2), 3)
    assert [[child.name for child in call.children] for call in calls] == [["aten::add", "aten::mul"]] * 3


def test_variants_that_run_no_torch_operators_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--profile", "resnet18", "--variants", "openvino"]) == 2
    assert "No profile can be made of openvino" in capsys.readouterr().err


def test_a_worker_s_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qegraph.bench.profile.measure.sys.executable", "false")
    with pytest.raises(QegraphError, match=r"Profiling qegraph of resnet18 failed with exit code 1: it said nothing"):
        list(profiles(["resnet18"], Settings(variants=("qegraph",)), SILENT))


@pytest.mark.zoo
@pytest.mark.parametrize("variant", ["qegraph+compile", "backend", "inductor"])
@pytest.mark.parametrize("model", ["mobilenet_v2", "bert_base"])
def test_parts_of_a_small_model_add_up(model: str, variant: str) -> None:
    """Other work on the machine falls on one measurement and not on another: the best of three counts."""
    settings = Settings(size="small", rounds=5, variants=(variant,))
    found: list[Profile] = []
    while not found or (len(found) < 3 and abs(found[-1].accounted - 1.0) > 0.1):
        found += profiles([model], settings, SILENT)
    profile = found[-1]
    assert min(profile.parts.values()) >= 0.0, [each.parts for each in found]
    assert 0.9 <= profile.accounted <= 1.1, [each.parts for each in found]
    assert profile.dearest(1)[0].microseconds > 0.0
