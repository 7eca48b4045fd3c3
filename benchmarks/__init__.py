"""Speed, measured: `python -m benchmarks`. Not part of the library, and never run by the tests."""
