"""What the figures in README come from: each module runs with `python -m benchmarks.NAME`."""
