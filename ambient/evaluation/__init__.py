"""Features of samples, and distances between them."""
