"""E-graphs as files: what is written is read back, foreign files are understood, malformed ones are explained."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import Linear, fq, net
from egraphs import EGraph, brute_force, freeze, naming, random_egraph

import qegraph
from qegraph import cli, zoo
from qegraph.errors import QegraphError
from qegraph.extract import extract
from qegraph.extract.gym import from_json, read, to_json, write
from qegraph.snapshot import ClassRef, ENode, Snapshot


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "egraph.json"
    for seed in range(200):
        with naming(seed):
            snapshot, costs = freeze(*random_egraph(seed))
            write(path, snapshot, costs)
            back = read(path)
            assert list(back.costs) == costs
            assert back.snapshot.roots == snapshot.roots and back.snapshot.classes == snapshot.classes
            pairs = zip(back.snapshot.nodes, snapshot.nodes, strict=True)
            assert all((a.eclass, a.op, a.children) == (b.eclass, b.op, b.children) for a, b in pairs)
            if brute_force(snapshot, costs) < inf:
                assert extract(back.snapshot, back.costs) == extract(snapshot, costs)


def test_nodes_of_a_class_need_not_stand_together(tmp_path: Path) -> None:
    nodes = (
        ENode(0, 1, "f", (ClassRef(0), ClassRef(0)), (0,)),
        ENode(1, 0, "x", (), ()),
        ENode(2, 1, "g", (ClassRef(0), (ClassRef(2),)), (0, 2)),
        ENode(3, 2, "y", (), ()),
    )
    snapshot = Snapshot(nodes, ((1,), (0, 2), (3,), ()), (1,), {1: (2, 3)}, {1: "uint8"})
    write(tmp_path / "e.json", snapshot, [1.5, 0.0, inf, 2.0])
    back = read(tmp_path / "e.json")
    assert [(each.eclass, each.op, each.children) for each in back.snapshot.nodes] == [
        (each.eclass, each.op, each.children) for each in nodes
    ]
    assert back.snapshot.classes == snapshot.classes and back.costs == (1.5, 0.0, inf, 2.0)
    data = to_json(snapshot, [1.5, 0.0, inf, 2.0])
    assert data["class_data"]["1"] == {"type": "uint8[2, 3]"}
    assert data["nodes"]["1.1"] == {
        "op": "g", "children": ["0.0", "2.0"], "eclass": "1", "cost": 4.5, "subsumed": True
    }  # fmt: skip


def test_an_operand_without_nodes_has_no_name() -> None:
    snapshot = Snapshot((ENode(0, 0, "f", (ClassRef(1),), (1,)),), ((0,), ()), (0,))
    with pytest.raises(QegraphError, match=r"e-class 1, an operand of f 0\.0, has no e-node"):
        to_json(snapshot, [1.0])


def test_foreign_files() -> None:
    """Any node of a class stands for it, costs default to 1; other keys, unreachable and empty classes don't matter."""
    data = {
        "comment": "by hand",
        "nodes": {
            "mul": {"op": "*", "children": ["two b", "x"], "eclass": "E", "cost": 5},
            "shift": {"op": "<<", "children": ["x", "one", "one"], "eclass": "E"},
            "x": {"op": "x", "eclass": "X", "cost": 0.0},
            "two a": {"op": "2", "eclass": "2"},
            "two b": {"op": "1+1", "children": ["one", "one"], "eclass": "2", "cost": 0.25},
            "one": {"op": "1", "eclass": "1", "children": []},
            "lost": {"op": "lost", "children": ["lost", "mul"], "eclass": "L"},
        },
        "root_eclasses": ["E"],
        "class_data": {"none": {"type": "Math"}, "E": {"type": "Math"}},
    }
    gym = from_json(data)
    assert gym.classes == ("none", "E", "X", "2", "1", "L")
    selection = extract(gym.snapshot, gym.costs)
    assert selection.cost == 2
    assert gym.choice(selection) == {"X": "x", "1": "one", "E": "shift"}


NODE: dict[str, Any] = {"op": "x", "eclass": "0"}
MALFORMED: dict[str, tuple[object, str]] = {
    "array": ([], "the file: expected an object, found []"),
    "no nodes": ({"root_eclasses": []}, "nodes: expected an object, found None"),
    "no roots": ({"nodes": {}}, "root_eclasses: expected an array, found None"),
    "node": ({"nodes": {"a": 1}, "root_eclasses": []}, "node a: expected an object, found 1"),
    "class": ({"nodes": {"a": {"op": "x", "eclass": 0}}, "root_eclasses": []}, "eclass of node a: expected a string"),
    "op": ({"nodes": {"a": {"eclass": "0"}}, "root_eclasses": []}, "op of node a: expected a string, found None"),
    "children": (
        {"nodes": {"a": NODE | {"children": "a"}}, "root_eclasses": []},
        "children of node a: expected an arr",
    ),
    "child": ({"nodes": {"a": NODE | {"children": ["b"]}}, "root_eclasses": []}, "the id of a node, found 'b'"),
    "child type": (
        {"nodes": {"a": NODE | {"children": [0]}}, "root_eclasses": []},
        "node a: expected a string, found 0",
    ),
    "root": (
        {"nodes": {"a": NODE}, "root_eclasses": ["1"]},
        "root_eclasses: expected the e-class of a node, found '1'",
    ),
    "empty root": (
        {"nodes": {"a": NODE}, "root_eclasses": ["1"], "class_data": {"1": {}}},
        "root_eclasses: expected the e-class of a node, found '1'",
    ),
    "negative": ({"nodes": {"a": NODE | {"cost": -1}}, "root_eclasses": []}, "cost of node a: expected a number >= 0"),
    "nan": ({"nodes": {"a": NODE | {"cost": float("nan")}}, "root_eclasses": []}, "cost of node a: expected a number"),
    "cost": (
        {"nodes": {"a": NODE | {"cost": "1"}}, "root_eclasses": []},
        "cost of node a: expected a number, found '1'",
    ),
    "bool": ({"nodes": {"a": NODE | {"cost": True}}, "root_eclasses": []}, "cost of node a: expected a number"),
    "subsumed": ({"nodes": {"a": NODE | {"subsumed": 1}}, "root_eclasses": []}, "subsumed of node a: expected true or"),
    "class data": ({"nodes": {}, "root_eclasses": [], "class_data": []}, "class_data: expected an object"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_explained(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, message = MALFORMED[name]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    assert cli.main(["extract", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: " in error and message in error


def test_what_is_no_json_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    for text in ("{", "\x00", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(QegraphError, match=r"bad\.json: expected JSON"):
            read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(QegraphError, match=r"bad\.json: expected JSON"):
        read(path)
    with pytest.raises(QegraphError, match=r"missing\.json: can't be read: No such file"):
        read(tmp_path / "missing.json")


def test_extract_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    egraph: EGraph = [[(0.0, [])], [(3.0, [0]), (0.5, [2])], [(0.5, [1]), (4.0, [0])], [(1.0, [1, 2])]]
    path, out = tmp_path / "egraph.json", tmp_path / "choice.json"
    write(path, *freeze(egraph, [3]))
    assert cli.main(["extract", str(path), "--time-limit", "10", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    words = ("cost           4.5", "lower bound    4.5", "gap            0.000%", "method         elimination")
    for word in (*words, "largest cycle  2", "seconds"):
        assert word in printed
    written = json.loads(out.read_text())
    assert written["choice"] == {"0": "0.0", "1": "1.0", "2": "2.0", "3": "3.0"}
    assert written["cost"] == written["lower_bound"] == 4.5
    write(path, *freeze([[(1.0, [0])]], [0]))
    assert cli.main(["extract", str(path)]) == 2
    assert f"{path}: expected an acyclic derivation" in capsys.readouterr().err


def test_egraph_command_writes_what_optimize_solves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of the zoo and a file of an exported program."""
    path = tmp_path / "egraph.json"
    assert cli.main(["egraph", "resnet18", "--size", "small", "-o", str(path)]) == 0
    assert "(fixpoint)" in capsys.readouterr().out
    model, inputs = zoo.load("resnet18", "small")
    report = qegraph.explain(qegraph.optimize(zoo.quantize(model, inputs)))
    back = read(path)
    assert extract(back.snapshot, back.costs).cost == pytest.approx(report.cost, abs=1e-4)

    gm = net(lambda linear, x: linear(fq(x)), [Linear()], [torch.randn(3, 24)])
    torch.export.save(torch.export.export(gm, (torch.randn(3, 24),)), tmp_path / "linear.pt2")
    assert cli.main(["egraph", str(tmp_path / "linear.pt2"), "-o", str(path)]) == 0
    assert "QGemm" in {node.op for node in read(path).snapshot.nodes}
    assert cli.main(["egraph", str(tmp_path / "none.pt2"), "-o", str(path)]) == 2
    assert "none.pt2: expected an exported program" in capsys.readouterr().err
    assert cli.main(["egraph", "resnet81", "-o", str(path)]) == 2
    assert "resnet18" in capsys.readouterr().err
