"""The stages of the workflow: a file each, which reads, calls the library and writes."""

import sys

if sys.argv[:1] == ["-m"]:  # by `python -m ambient.stages.train`, which would end well and do nothing
    _name = sys.orig_argv[sys.orig_argv.index("-m") + 1].rpartition(".")[2]
    raise SystemExit(f"ambient.stages.{_name} is no program; run the stage by: "
                     f"python -m ambient run {_name} --help")
