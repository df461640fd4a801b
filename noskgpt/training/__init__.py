"""Training: the run from a text to weights, its optimizers, hardware, files and reports."""
