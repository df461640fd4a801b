"""Plot the losses of a training run to an image file.

matplotlib is imported inside the functions, because its import would slow down every command.
"""

from pathlib import Path

from noskgpt.checkpoint import TrainingRecord
from noskgpt.errors import CheckpointError


def check_format(path: Path) -> None:
    """Raise `CheckpointError` if the suffix of `path` is not that of a supported image format."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in formats:
        msg = f"{path}: not an image format. Choose a file name ending in .png, .svg or .pdf."
        raise CheckpointError(msg)


def plot_losses(record: TrainingRecord, path: Path, *, title: str = "") -> None:
    """Plot both losses over the steps, in the format of the suffix of `path`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [step for step, _, _ in record.curve]
    axes.plot(steps, [loss for _, loss, _ in record.curve], label="training", linewidth=1)
    measured = [(step, loss) for step, _, loss in record.curve if loss is not None]
    if record.start_loss is not None:
        measured.insert(0, (0, record.start_loss))
    axes.plot(*zip(*measured, strict=True), "o-", label="held out")
    step, loss = measured[-1]
    axes.annotate(
        f"{loss:.3f}", (step, loss), xytext=(0, 8), textcoords="offset points", ha="right"
    )
    axes.set(xlabel="step", ylabel="loss (nats per character)", title=title)
    lowest = min(loss for _, loss in measured)
    axes.set_ylim(lowest - 0.3, lowest + 1.2)
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        path.unlink(missing_ok=True)  # half of an image
        msg = f"{path}: the plot cannot be written ({error}). The weights have been written."
        raise CheckpointError(msg) from error
