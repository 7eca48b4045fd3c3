"""`python -m ambient run [--ranks N [--nodes M] [--shard-weights]] STAGE ...`: run one stage, by its ranks.

One rank is this process itself. Several on one node are started by `torchrun --standalone`; on several nodes
by `srun`, one task a rank. Status 75: the stage saved its state, the same command goes on from there.
"""

from __future__ import annotations

import argparse
import ast
from importlib import import_module

from ambient.jobs import launch, stage
from ambient.specs.stage import Stage
from ambient.specs.stages import STAGES
from ambient.specs.strict import nearest


def told(row: Stage) -> str:
    """What a stage does, in a line."""
    text = ast.get_docstring(ast.parse(stage.source(row).read_text(encoding="utf-8")))
    return text.splitlines()[0].removeprefix("Stage: ").removesuffix(".")


def stages() -> str:
    """All stages, a line each."""
    return "\n".join(["stages (STAGE --help: its options):", *(
        f"  {name:13} {told(row)}" for name, row in STAGES.items())])


def main(arguments: list[str]) -> int:
    """Run a stage. A wrong command line is refused before ranks are started, or anything heavy is loaded."""
    asks = {"-h", "--help"} & set(arguments[:1])
    parser = argparse.ArgumentParser(prog="python -m ambient run", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog=stages() if asks else None)
    parser.add_argument("--ranks", type=int, default=1, help="processes in all, one a GPU")
    parser.add_argument("--nodes", type=int, default=1, help="machines that they are spread over")
    parser.add_argument("--shard-weights", action="store_true", help="each rank holds a part of the weights")
    parser.add_argument("stage", metavar="STAGE", help="one of the stages below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the stage")
    given = parser.parse_args(arguments)
    row = STAGES.get(given.stage)
    if row is None:
        parser.error(f"no such stage: {given.stage!r}{nearest(given.stage, STAGES)}")
    if given.ranks < 1 or given.nodes < 1 or given.ranks % given.nodes:
        parser.error(f"got --ranks {given.ranks} --nodes {given.nodes}, allowed: ranks a multiple of nodes")
    if given.ranks > 1 and not row.shared:
        parser.error(f"got --ranks {given.ranks}, allowed: 1, since {row.name} runs on one")
    if given.shard_weights and not (row.shardable and given.ranks > 1):
        able = ", ".join(name for name, other in STAGES.items() if other.shardable)
        parser.error(f"got --shard-weights, allowed: of these stages, on two ranks or more: {able}")
    job = stage.begin(row, given.options)
    if given.ranks > 1:
        launch.start(given.ranks, given.nodes, ["ambient", "run", row.name, *given.options],
                     given.shard_weights)
    job.run(import_module(stage.module(row)).main)
    return 0
