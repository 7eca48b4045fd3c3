"""`python -m ambient`: the commands, and the list of stages."""

import signal
import sys
from importlib import import_module

COMMANDS = {"audit": "check every artefact back to raw data; explain a number; run jobs again; sign",
            "show": "print a table", "spec": "print the resolved settings of a run",
            "compare": "two results trees: which cells differ, and the earliest difference behind each",
            "prune": "remove what is big, and record it", "crate": "export a tree as RO-Crate",
            "doctor": "say what is missing before a scale is submitted to SLURM, and what it costs",
            "efficiency": "GPU-hours, images/s and restarts of finished jobs"}
MODULES = {"audit": "ambient.audit.cli", "spec": "ambient.config.show"}
STAGES = ("prepare", "corrupt", "classifier", "annotate", "train", "sample", "detector", "reference",
          "evaluate", "tables", "figures", "summary", "combine", "locality", "galleries",
          "crops_figures", "theory", "theory_figure")


def main(arguments: list[str]) -> int:
    """Hand over to a command, or say what there is."""
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        return import_module(MODULES.get(name, f"ambient.{name}")).main(arguments[1:])
    print("usage: python -m ambient COMMAND ...\n")
    for command, what in COMMANDS.items():
        print(f"  {command:10} {what}")
    print(f"\nStages, `python -m ambient.<stage> --help`: {', '.join(STAGES)}")
    return 0 if name in ("", "-h", "--help") else 2


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # `... | head` ends quietly, as any command's output does
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
