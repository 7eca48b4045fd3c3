"""The mathematics of the method, on tensors. It knows no file, no settings and no process."""
