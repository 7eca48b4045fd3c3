"""`python -m ambient`: audit, show, spec; and the list of stages."""

import signal
import sys

COMMANDS = {"audit": "check every artefact back to raw data", "show": "print a table",
            "spec": "print the resolved settings of a run",
            "doctor": "say what is missing before a scale is submitted to SLURM, and what it costs",
            "efficiency": "GPU-hours, images/s and restarts of finished jobs"}
STAGES = ("prepare", "corrupt", "classifier", "annotate", "train", "sample", "detector", "reference",
          "evaluate", "tables", "figures")


def main(arguments: list[str]) -> int:
    """Hand over to a command, or say what there is."""
    name = arguments[0] if arguments else ""
    if name == "audit":
        from ambient.audit import main as command
    elif name == "show":
        from ambient.show import main as command
    elif name == "spec":
        from ambient.config import main as command
    elif name == "doctor":
        from ambient.doctor import main as command
    elif name == "efficiency":
        from ambient.efficiency import main as command
    else:
        print("usage: python -m ambient COMMAND ...\n")
        for command, what in COMMANDS.items():
            print(f"  {command:10} {what}")
        print(f"\nStages, `python -m ambient.<stage> --help`: {', '.join(STAGES)}")
        return 0 if name in ("", "-h", "--help") else 2
    return command(arguments[1:])


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # `... | head` ends quietly, as any command's output does
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
