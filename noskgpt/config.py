"""Describe the shape of a model and of each of its weights, without PyTorch."""

from dataclasses import dataclass

from noskgpt.limits import MAX_CONTEXT, MAX_LAYERS, MAX_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Set the shape of a model. The defaults are those of the reference, the original noskGPT."""

    vocab_size: int = 65
    context: int = 256
    n_layer: int = 5
    n_head: int = 4
    n_embd: int = 128

    def __post_init__(self) -> None:
        """Raise `ValueError` for an invalid shape, or one beyond the bounds of `noskgpt.limits`."""
        for name in ("vocab_size", "context", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                msg = f"{name} must be a positive integer, not {value!r}"
                raise ValueError(msg)
        if self.n_embd % self.n_head:
            msg = f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})"
            raise ValueError(msg)
        if self.context > MAX_CONTEXT or self.n_layer > MAX_LAYERS:
            msg = f"context and n_layer must be at most {MAX_CONTEXT} and {MAX_LAYERS}"
            raise ValueError(msg)
        if self.parameters > MAX_PARAMETERS:
            msg = f"a model of this shape has more than {MAX_PARAMETERS:,} parameters"
            raise ValueError(msg)

    @property
    def parameters(self) -> int:
        """The number of trainable parameters of a model of this shape."""
        channels, symbols = self.n_embd, self.vocab_size
        attention = channels * (4 * channels + 1)
        feed_forward = channels * (8 * channels + 5)
        embeddings = (symbols + self.context) * channels
        block = 4 * channels + attention + feed_forward
        return embeddings + self.n_layer * block + feed_forward + (channels + 1) * symbols

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight, by its name in a checkpoint."""
        channels = self.n_embd
        shapes: dict[str, tuple[int, ...]] = {
            "token_embedding.weight": (self.vocab_size, channels),
            "position_embedding.weight": (self.context, channels),
        }
        for block in (f"blocks.{i}" for i in range(self.n_layer)):
            for norm in ("norm1", "norm2"):
                shapes |= {f"{block}.{norm}.{kind}": (channels,) for kind in ("weight", "bias")}
            for part in ("query", "key", "value", "projection"):
                shapes[f"{block}.attention.{part}.weight"] = (channels, channels)
            shapes[f"{block}.attention.projection.bias"] = (channels,)
            shapes |= _feed_forward(f"{block}.feed_forward", channels)
        shapes |= _feed_forward("feed_forward", channels)
        shapes["head.weight"] = (self.vocab_size, channels)
        shapes["head.bias"] = (self.vocab_size,)
        return shapes


def _feed_forward(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a feed-forward."""
    return {
        f"{name}.expand.weight": (4 * channels, channels),
        f"{name}.expand.bias": (4 * channels,),
        f"{name}.contract.weight": (channels, 4 * channels),
        f"{name}.contract.bias": (channels,),
    }


def is_hidden_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a weight is a matrix of attention or of a feed-forward.

    These are all matrices except the embeddings and the head.
    """
    return len(shape) == 2 and ("attention" in name or "feed_forward" in name)  # noqa: PLR2004
