"""One job that survives: command line, state, locks, signals, progress. Nothing here changes a result."""
