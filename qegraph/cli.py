"""The `qegraph` command. A subcommand is one entry of `COMMANDS`; its imports wait until it runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qegraph.errors import QegraphError
from qegraph.files import write_text
from qegraph.progress import progress
from qegraph.quiet import quiet

_NAME = "qegraph"


@dataclass(frozen=True)
class Command:
    """`configure` adds the arguments; `run` returns the exit code: 0 fine, 1 a failed check, 2 can't run."""

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _configure_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_at_least_one, default=1, help="intra-op threads (default 1)")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of the model (default full)")


def _run_demo(args: argparse.Namespace) -> int:
    from qegraph.bench import demo

    with progress("demo") as tell:
        return demo(tell, args.threads, args.size)


def _configure_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="zoo models (default: all)")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of the models (default full)")
    parser.add_argument("--threads", type=_at_least_one, default=1, help="intra-op threads (default 1)")
    parser.add_argument("--rounds", type=_at_least_one, default=11, help="timing rounds (default 11)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs (default 0)")
    parser.add_argument("--samples", type=_at_least_one, default=16, help="inputs outputs are compared on (default 16)")
    parser.add_argument("--variants", type=_names, help="comma-separated (default: those not slow to build)")
    parser.add_argument("--builds", type=_at_least_one, default=1, help="of each variant, timed in turns (default 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured, after each model")
    parser.add_argument("--cost-fidelity", action="store_true", help="rank random forms by cost and by time instead")
    parser.add_argument("--profile", action="store_true", help="split the latency of one call into its parts instead")
    parser.add_argument("--forms", type=_at_least_one, default=30, help="random forms a model (default 30)")


def _run_bench(args: argparse.Namespace) -> int:
    from qegraph import bench, zoo

    if args.cost_fidelity:
        return _run_fidelity(args)
    if args.profile:
        return _run_profile(args)
    variants: tuple[str, ...] = args.variants or bench.DEFAULT
    _known("model", args.models, zoo.names())
    _known("variant", variants, tuple(bench.BUILDERS))
    settings = bench.Settings(
        args.size, args.rounds, args.threads, args.seed, args.samples, variants, builds=args.builds
    )
    machine = bench.describe(args.threads)
    models = args.models or zoo.names()
    results: list[bench.Result] = []
    with progress("bench", len(models)) as tell:
        for result in bench.bench(models, settings, tell):
            results.append(result)
            tell.done(len(results))
            if args.json:
                write_text(args.json, json.dumps(bench.to_json(results, settings, machine), indent=1) + "\n")
    bench.show(bench.tables(results, settings))
    print(f"{machine.line()}; seed {args.seed}, {args.rounds} rounds, {args.builds} builds, {args.size} size")
    failures = [f"{result.model}: {failure}" for result in results for failure in result.failures]
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


def _run_fidelity(args: argparse.Namespace) -> int:
    from qegraph import bench, zoo

    _known("model", args.models, zoo.names())
    settings = bench.Settings(args.size, args.rounds, args.threads, args.seed)
    models = args.models or zoo.names()
    results: list[bench.Fidelity] = []
    with progress("fidelity", len(models)) as tell:
        for result in bench.fidelity(models, settings, args.forms, tell):
            results.append(result)
            tell.done(len(results))
    bench.show([bench.fidelity_table(results)])
    print(f"{bench.describe(args.threads).line()}; seed {args.seed}, {args.forms} forms, {args.rounds} rounds")
    return 0


def _run_profile(args: argparse.Namespace) -> int:
    from qegraph import bench, zoo
    from qegraph.bench import profile

    _known("model", args.models, zoo.names())
    variants: tuple[str, ...] = args.variants or profile.DEFAULT
    settings = bench.Settings(args.size, args.rounds, args.threads, args.seed, variants=variants)
    return profile.run(args.models or zoo.names(), settings)


def _configure_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_at_least_one, default=1, help="intra-op threads (default 1)")


def _run_calibrate(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from qegraph import bench, tuning
    from qegraph.cost import DEFAULTS

    with bench.threads(args.threads), progress("calibrate", tuning.STAGES) as tell:
        rates = tuning.calibrate(tell)
    store = tuning.Store.here(args.threads)
    store.update(rates=rates)
    for name, value in asdict(rates).items():
        print(f"{name:28}{value:14,.2f}  (default {getattr(DEFAULTS, name):,.2f})")
    print(f"{store.machine.line()}\nkept in {store.path}")
    return 0


def _configure_decisions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_at_least_one, default=1, help="intra-op threads (default 1)")
    parser.add_argument("--rounds", type=_at_least_one, default=11, help="timing rounds (default 11)")
    parser.add_argument("--cost", choices=("estimated", "measured"), default="estimated", help="default estimated")


def _run_decisions(args: argparse.Namespace) -> int:
    from qegraph import bench, decisions

    settings = bench.Settings(rounds=args.rounds, threads=args.threads)
    with progress("decisions") as tell:
        verdicts = list(decisions.decide(settings, tell, args.cost))
    bench.show([decisions.decisions_table(verdicts)])
    print(f"{bench.describe(args.threads).line()}; {args.rounds} rounds")
    return 0 if all(each.chosen == each.faster for each in verdicts) else 1


def _configure_coverage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", type=_names, metavar="NAMES", help="comma-separated, e.g. F11,F12 (default all)")
    parser.add_argument("--rivals", action=argparse.BooleanOptionalAction, default=True, help="run the others too")
    parser.add_argument("--sample", type=_at_least_one, metavar="N", help="run rivals on N cells drawn at random")
    parser.add_argument("--all", action="store_true", help="run slow rivals on all cells too, not on a sample")
    parser.add_argument("--jobs", type=_at_least_one, default=1, help="processes (default 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what became of every cell")


def _run_coverage(args: argparse.Namespace) -> int:
    from qegraph import bench, coverage

    _known("family", args.family or (), coverage.NAMES)
    families: tuple[str, ...] = args.family or coverage.NAMES
    settings = coverage.Settings(families, args.rivals, args.sample, args.all, args.jobs)
    outcomes: list[coverage.Outcome] = []
    with progress("coverage", coverage.steps(settings)) as tell:
        for step, done in enumerate(coverage.coverage(settings, tell), 1):
            outcomes += done
            tell.done(step)
    machine = bench.describe(1)
    if args.json:
        write_text(args.json, json.dumps(coverage.to_json(outcomes, settings, machine), indent=1) + "\n")
    bench.show([coverage.table(outcomes, settings)])
    print(coverage.summary(outcomes, settings))
    print(machine.line())
    failures = coverage.failures(outcomes)
    for failure in failures:
        print(f"FAILED {failure.family} {failure.cell}: {failure.verdict}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def _configure_egraph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a zoo model, or a .pt2 file of an exported quantized program")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json", help="where to write it")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of a zoo model (default full)")


def _run_egraph(args: argparse.Namespace) -> int:
    from qegraph.dump import dump

    return dump(args.model, args.out, args.size)


def _configure_extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.json", help="an e-graph in the extraction-gym format")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="S", help="seconds (default 60)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the choice: e-class -> e-node")


def _run_extract(args: argparse.Namespace) -> int:
    from qegraph.extract.command import extract_file

    return extract_file(args.file, args.time_limit, args.json)


def _configure_explain(parser: argparse.ArgumentParser) -> None:
    from qegraph.view.command import configure

    configure(parser)


def _run_explain(args: argparse.Namespace) -> int:
    from qegraph.view.command import run

    return run(args)


def _configure_why_not(parser: argparse.ArgumentParser) -> None:
    from qegraph.whynot.command import configure

    configure(parser)


def _run_why_not(args: argparse.Namespace) -> int:
    from qegraph.whynot.command import run

    return run(args)


def _configure_rules(parser: argparse.ArgumentParser) -> None:
    from qegraph.workshop import command

    command.configure(parser)


def _run_rules(args: argparse.Namespace) -> int:
    from qegraph.workshop import command

    return command.run(args)


def _configure_fuzz(parser: argparse.ArgumentParser) -> None:
    from qegraph.fuzz.command import configure

    configure(parser)


def _run_fuzz(args: argparse.Namespace) -> int:
    from qegraph.fuzz.command import run

    return run(args)


def _known(kind: str, asked: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise QegraphError(f"No {kind} is called {', '.join(unknown)}. There are: {', '.join(known)}.")


COMMANDS = (
    Command("demo", "optimize a quantized resnet18: what fused, how close, how fast", _configure_demo, _run_demo),
    Command("bench", "compare with torchao's lowering and torch.compile on the zoo", _configure_bench, _run_bench),
    Command("calibrate", "measure what this machine's costs are made of", _configure_calibrate, _run_calibrate),
    Command("decisions", "choices that depend on sizes: by cost and as timed", _configure_decisions, _run_decisions),
    Command("coverage", "which fusions work, by family, here and elsewhere", _configure_coverage, _run_coverage),
    Command("egraph", "write a model's saturated e-graph as extraction-gym JSON", _configure_egraph, _run_egraph),
    Command("extract", "the cheapest program in such an e-graph", _configure_extract, _run_extract),
    Command("explain", "what became of every call of a model, and why", _configure_explain, _run_explain),
    Command("why-not", "why a rule didn't apply at a node, and what would help", _configure_why_not, _run_why_not),
    Command("fuzz", "random programs against what they compute, and small scripts", _configure_fuzz, _run_fuzz),
    Command("rules", "write, list, check and weigh rules", _configure_rules, _run_rules),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    parser = argparse.ArgumentParser(_NAME, description="The fastest sound graph of oneDNN int8 ops for a q/dq graph.")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        command.configure(added)
        added.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    try:
        with quiet():
            return args.run(args)
    except QegraphError as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full or read-only, a file that isn't there
        print(f"{_NAME}: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
