"""`python -m ambient`: the commands."""

import os
import signal
import sys
from importlib import import_module

THREADS = "OMP_NUM_THREADS"
COMMANDS = {"new": "look at a folder of images, good and bad, and write a scale for them",
            "audit": "check every artefact back to raw data; explain a number; run jobs again; sign",
            "show": "print a table, ours beside the paper's",
            "spec": "print every setting of a run, and the file that set it",
            "compare": "two results trees: which cells differ, and the earliest difference behind each",
            "prune": "remove what is big, and record it",
            "crate": "export results with their provenance as RO-Crate, a format for archives",
            "doctor": "say what a scale or one target needs and costs, and what is missing for it",
            "efficiency": "GPU-hours, images/s and restarts of finished jobs",
            "sample": "images of a trained run as PNG files, with a contact sheet",
            "generate": "images of captions of your own by a trained run, as PNG files",
            "annotate": "sigma_min of new images, the noise level from which each is usable",
            "export": "a run's weights with a model card, in a folder or on a hub",
            "score": "anybody's images under a table's protocol, as a row from outside",
            "run": "run one stage of the workflow, as its rule does"}
MODULES = {"new": "ambient.commands.new",
           "run": "ambient.jobs.run", "audit": "ambient.audit.cli", "show": "ambient.report.show",
           "spec": "ambient.settings.show", "compare": "ambient.audit.compare",
           "prune": "ambient.audit.prune", "crate": "ambient.audit.crate",
           "doctor": "ambient.cluster.doctor", "efficiency": "ambient.cluster.efficiency",
           "sample": "ambient.commands.sample",
           "generate": "ambient.commands.generate",
           "annotate": "ambient.commands.annotate", "export": "ambient.commands.export",
           "score": "ambient.commands.score"}


def usage() -> str:
    """What there is, a line a command."""
    lines = ["usage: python -m ambient COMMAND ...  (COMMAND --help: its options)", "",
             "Diffusion models that learn from good images and from bad ones. Snakemake makes their tables",
             "and figures: `snakemake --cores 2` those of the demo. These commands prepare such runs and use",
             "what they made. A scale is a file of config/scales: it says how large everything is.", ""]
    lines += [f"  {command:10} {what}" for command, what in COMMANDS.items()]
    lines += ["", "exit status: 0 done, 1 problems found, 2 could not be done, 75 saved: run it again"]
    return "\n".join(lines)


def version() -> str:
    """The version of the package, and the commit of its source where that is known."""
    from importlib.metadata import version

    from ambient.provenance.source_code import commit

    found = commit()
    edited = ", edited" if found.get("dirty") else ""
    return f"ambient {version('ambient')}" + (f" ({found['commit'][:12]}{edited})" if found else "")


def unknown(name: str) -> str:
    """Why a command is none, and what was probably meant."""
    import difflib

    from ambient.specs.stages import STAGES

    if name in STAGES:
        return f"{name!r} is a stage, not a command: python -m ambient run {name} --help"
    near = difflib.get_close_matches(name, COMMANDS, n=3)
    meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(COMMANDS)}"
    return f"unknown command {name!r} ({meant})"


def one_line(error: Exception) -> str:
    """An error for the person who reads it; one that nobody foresaw says its kind, and how to see where."""
    from ambient.storage.text import printable

    text = printable(" ".join(str(error).split()))
    if isinstance(error, (ValueError, OSError, ImportError)) and text:
        return text
    return f"{type(error).__name__}: {text} (AMBIENT_TRACEBACK=1 shows where)"


def main(arguments: list[str]) -> int:
    """Hand over to a command, or say what there is. Status 2: no such command, or it could not be done."""
    name = arguments[0] if arguments else ""
    if name in ("", "-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(version())
        return 0
    if name not in COMMANDS:
        print(f"ambient: error: {unknown(name)}", file=sys.stderr)
        return 2
    given = os.environ.get(THREADS, "")
    if given and not all(one.strip().isdecimal() and int(one) for one in given.split(",")):
        print(f"ambient: error: {THREADS}: got {given!r}, allowed: 1 or more (unset: one a core); torch is "
              "very slow by anything else", file=sys.stderr)
        return 2
    try:
        return import_module(MODULES[name]).main(arguments[1:])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        from ambient.jobs import stopping

        if stopping.is_on(stopping.TRACEBACK) or name == "run":  # a job's log holds the whole trace
            raise
        print(f"ambient {name}: error: {one_line(error)}", file=sys.stderr)
        return 2


def command() -> int:
    """The shell command `ambient`, which is `python -m ambient`."""
    # `... | head` ends quietly, as any command's output does. A job outlives whoever reads it.
    if hasattr(signal, "SIGPIPE") and sys.argv[1:2] != ["run"]:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(command())
