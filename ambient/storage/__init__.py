"""Bytes on disk, whole or not at all. Nothing here can change a byte of a result."""
