"""Ambient Diffusion Omni: training good models with bad data."""
