"""Train a model on a text: the run, its optimizers, hardware, files and progress reports."""
