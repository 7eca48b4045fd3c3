"""What a user does with a scale beside running it: begin one, and take its results elsewhere."""
