"""Images, mixtures and annotations: read, made and stored."""
