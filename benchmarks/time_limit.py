"""Measure how well a training run keeps its time limit: `python -m benchmarks.time_limit`.

It trains the bundled plays for one minute, and compares the duration of the whole command
with the limit. The last line is JSON, in seconds. The exit code is 1 if the difference is more than
5 % of the limit and more than 5 seconds.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MINUTES = 1.0
FRACTION_BOUND, SECONDS_BOUND = 0.05, 5.0


def main() -> None:
    """Train, print, and exit with 1 if the bound does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "weights.pth"
        options = ("--minutes", f"{MINUTES:g}", "--preset", "quick", "--out", str(out))
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "noskgpt", "train", *options], check=True)
        seconds = time.perf_counter() - start
        assert out.exists()
    limit = 60 * MINUTES
    held = abs(seconds - limit) <= max(SECONDS_BOUND, FRACTION_BOUND * limit)
    print(json.dumps({"limit": limit, "seconds": seconds, "ratio": seconds / limit, "held": held}))
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
