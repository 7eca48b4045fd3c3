"""`python -m ambient`: audit, show, spec; and the list of stages."""

import signal
import sys

COMMANDS = {"audit": "check every artefact back to raw data", "show": "print a table",
            "spec": "print the resolved settings of a run", "estimate": "a scale's GPU-hours"}
STAGES = ("prepare", "corrupt", "classifier", "annotate", "train", "sample", "detector", "reference",
          "evaluate", "tables", "figures", "summary", "combine", "locality", "galleries",
          "crops_figures", "theory", "theory_figure")


def main(arguments: list[str]) -> int:
    """Hand over to a command, or say what there is."""
    name = arguments[0] if arguments else ""
    if name == "audit":
        from ambient.audit import main as command
    elif name == "show":
        from ambient.show import main as command
    elif name == "spec":
        from ambient.config import main as command
    elif name == "estimate":
        from ambient.estimate import main as command
    else:
        print("usage: python -m ambient COMMAND ...\n")
        for command, what in COMMANDS.items():
            print(f"  {command:8} {what}")
        print(f"\nStages, `python -m ambient.<stage> --help`: {', '.join(STAGES)}")
        return 0 if name in ("", "-h", "--help") else 2
    return command(arguments[1:])


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # `... | head` ends quietly, as any command's output does
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
