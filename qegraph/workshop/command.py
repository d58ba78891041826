"""`qegraph rules`: its subcommands. Imports wait until one of them runs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qegraph.lang.rule import Rule
    from qegraph.prove import Proof
    from qegraph.workshop.check import Checked


def configure(parser: argparse.ArgumentParser) -> None:
    parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    new = _added(parsers, "new", "write a rule that works and its test, to be changed", _new)
    new.add_argument("name", metavar="NAME", help="of the rule: words with dashes")
    new.add_argument("--in", dest="folder", type=Path, metavar="FOLDER", help="where both files go")

    listing = _added(parsers, "list", "every rule: its law, class, guards, proof and place", _list)
    listing.add_argument("--md", action="store_true", help="as Markdown")
    _rules_argument(listing, "rules to list instead of the shipped ones")

    check = _added(parsers, "check", "what is wrong with rules, and how large they make the e-graph", _check)
    check.add_argument("names", nargs="*", metavar="NAME", help="rules to check (default: those of --rules, or all)")
    check.add_argument(
        "--growth", action=argparse.BooleanOptionalAction, default=True, help="saturate with and without"
    )
    check.add_argument("--proof", action=argparse.BooleanOptionalAction, default=True, help="compare both sides")
    check.add_argument("--instances", type=int, default=200, help="of a proof (default 200)")
    check.add_argument("--seed", type=int, default=0, help="of a proof (default 0)")
    check.add_argument("--jobs", type=int, default=2, help="processes of a proof (default 2)")
    check.add_argument("--stamp", action="store_true", help="keep what was proved, beside the rules")
    _rules_argument(check, "rules beside the shipped ones")

    cover = _added(parsers, "coverage", "how often each rule matches in each model, and is kept", _coverage)
    cover.add_argument("models", nargs="*", metavar="MODEL", help="zoo models (default: all)")
    cover.add_argument("--size", choices=("full", "small"), default="small", help="of the models (default small)")
    _rules_argument(cover, "rules beside the shipped exact ones")

    ablate = _added(parsers, "ablate", "a model with and without one rule: cost, sizes, time", _ablate)
    ablate.add_argument("name", metavar="NAME", help="of the rule")
    ablate.add_argument("--model", required=True, action="append", metavar="M", help="a zoo model; may be repeated")
    ablate.add_argument("--size", choices=("full", "small"), default="full", help="of the models (default full)")
    ablate.add_argument("--rounds", type=int, default=11, help="timing rounds (default 11)")
    ablate.add_argument("--threads", type=int, default=1, help="intra-op threads (default 1)")
    _rules_argument(ablate, "rules beside the shipped exact ones")


def run(args: argparse.Namespace) -> int:
    """The exit code: 0 fine, 1 findings. Raises QegraphError for what can't be run."""
    return args.run_rules(args)


def _added(
    parsers: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
    name: str,
    summary: str,
    run_it: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = parsers.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run_rules=run_it)
    return parser


def _rules_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--rules", nargs="+", default=[], metavar="ITEM", help=f"{what}: files, folders, pack:NAME, ..."
    )


def _progress() -> Callable[[str], None]:
    begin = time.perf_counter()
    return lambda message: print(f"[{time.perf_counter() - begin:6.1f} s] {message}", file=sys.stderr, flush=True)


def _new(args: argparse.Namespace) -> int:
    from qegraph.workshop.scaffold import new

    path, test = new(args.name, args.folder)
    print(f"{path}\n{test}\nnext: qegraph rules check {args.name} --rules {path}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from qegraph.load_rules import select, shipped
    from qegraph.workshop.catalogue import as_markdown, as_text, catalogue

    entries = catalogue(select(args.rules) if args.rules else shipped())
    for line in (as_markdown if args.md else as_text)(entries):
        print(line)
    return 0


def _check(args: argparse.Namespace) -> int:
    from qegraph.prove import prove, stamps
    from qegraph.workshop import check

    rules, among, failures = _checked(args.names, args.rules)
    findings = check.static(rules, among) + ([] if args.stamp else check.stamped(rules))
    for failure in failures:
        print(f"FOUND {failure}")
    for finding in findings:
        print(f"FOUND {finding}")
    count = len(failures) + len(findings)
    if args.growth:
        count += _show(check.grown(rules, [rule for rule in among if rule.exact], _progress()))
    if args.proof:
        done: list[Proof] = []
        count += _show(check.proved(_kept(prove(rules, args.instances, args.seed, args.jobs), done)))
        for path in stamps.keep(done) if args.stamp else ():
            print(f"stamped: {path}")
    print(f"{len(rules)} rules checked: {count or 'no'} finding{'' if count == 1 else 's'}")
    return 1 if count else 0


def _kept(proofs: Iterable[Proof], done: list[Proof]) -> Iterator[Proof]:
    for proof in proofs:
        done.append(proof)
        yield proof


def _checked(names: Sequence[str], items: Sequence[str]) -> tuple[list[Rule], list[Rule], list[str]]:
    """The rules to check, all there are, and why items couldn't be loaded: one that can't doesn't hide the others."""
    from qegraph.errors import RuleError
    from qegraph.load_rules import select, shipped

    there = list(shipped())
    own: list[Rule] = []
    failures: list[str] = []
    for item in items:
        try:
            own = [rule for rule in select([*there, *own, item]) if rule not in there]
        except RuleError as error:
            failures.append(str(error))
    known = {rule.name: rule for rule in (*there, *own)}
    if failures:  # what names say may be in what couldn't be loaded
        names = [name for name in names if name in known]
    asked = [_named(name, known.values()) for name in names] if names else own if items else there
    return asked, [*there, *own], failures


def _named(name: str, rules: Iterable[Rule]) -> Rule:
    from qegraph.errors import RuleError, nearest

    known = {rule.name: rule for rule in rules}
    if name not in known:
        raise RuleError(f"there is no rule {name}{nearest(name, known)}")
    return known[name]


def _show(lines: Iterable[Checked]) -> int:
    """Print them as they come; how many are findings."""
    count = 0
    for each in lines:
        count += each.finding is not None
        print(f"{'FOUND ' if each.finding else ''}{each.finding or f'{each.rule.name}: {each.line}'}", flush=True)
        if each.script:
            print(indent(each.script, "    "))
    return count


def _coverage(args: argparse.Namespace) -> int:
    from qegraph import bench, zoo
    from qegraph.load_rules import select
    from qegraph.workshop import firing
    from qegraph.workshop.subjects import models

    rules = select(["default", *args.rules])
    with bench.threads(1):
        found = list(firing.coverage(models(args.models or zoo.names(), args.size, _progress()), rules))
    for line in firing.as_text(found):
        print(line)
    never = firing.never(found)
    print(f"{len(never)} of {len(rules)} rules match in none of these models: {', '.join(never) or '-'}")
    return 0


def _ablate(args: argparse.Namespace) -> int:
    from qegraph import bench
    from qegraph.load_rules import select, shipped
    from qegraph.workshop.ablate import ablate, ablation_table
    from qegraph.workshop.subjects import models

    rules = select(["default", *args.rules])
    rule = _named(args.name, (*shipped(), *rules))
    with bench.threads(args.threads):
        found = [ablate(rule, rules, subject, args.rounds) for subject in models(args.model, args.size, _progress())]
    bench.show(map(ablation_table, found))
    print(f"{bench.describe(args.threads).line()}; {args.rounds} rounds, {args.size} size")
    return 0
