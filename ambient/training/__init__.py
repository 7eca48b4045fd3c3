"""One training loop for every network, and the machine that it runs on."""
