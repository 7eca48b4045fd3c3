"""What is recorded of a file: its manifest, and the code that made it. Nothing here changes a result."""
