"""The stages of the workflow: a file each, which reads, calls the library and writes."""
