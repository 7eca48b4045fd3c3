"""The stages of the workflow: a file each, which reads, calls the library and writes."""

import sys

if sys.argv[:1] == ["-m"]:  # by `python -m ambient.stages.train`, which would end well and do nothing
    _module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    raise SystemExit(f"{_module} is no program; run the stage by: "
                     f"python -m ambient run {_module.rpartition('.')[2]} --help")
