"""The stages that state provenance levels: a file each, which audits, calls the report and writes."""

from ambient import stages  # noqa: F401  (which refuses to be started as a module)
