"""Define the noskGPT network, a transformer of 1,170,625 parameters, and its key-value cache.

This module is independent of characters, files, training and sampling.

In shapes, B is the number of sequences, T of positions, C of channels (`n_embd`), H of heads,
D of channels in a head, and V of symbols in the vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name PyTorch's own documentation uses)

from noskgpt.config import ModelConfig, is_hidden_matrix


class KVCache:
    """Store the keys and values of earlier positions, preallocated for a full context.

    `keys` and `values` are (n_layer, B, H, context, D); `length` is the number of filled
    positions.
    """

    def __init__(self, config: ModelConfig, batch: int = 1) -> None:
        head = config.n_embd // config.n_head
        shape = (config.n_layer, batch, config.n_head, config.context, head)
        self.keys = torch.empty(shape)
        self.values = torch.empty(shape)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) keys and values to a layer; return those of all its positions."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class SelfAttention(nn.Module):
    """Compute causal multi-head attention, with one matrix per query, key and value for all heads.

    Scores are scaled by ``n_embd ** -0.5``, as in the reference, not by the head size.
    """

    def __init__(self, config: ModelConfig, attention_dropout: float) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.scale = config.n_embd**-0.5
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.key = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.value = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.projection = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        batch, time, channels = x.shape
        heads = (batch, time, self.n_head, channels // self.n_head)
        q = self.query(x).view(heads).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).view(heads).transpose(1, 2)
        v = self.value(x).view(heads).transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # (B, H, S, D)
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            is_causal=time > 1,
            scale=self.scale,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        out = out.transpose(1, 2).reshape(batch, time, channels)
        projected: Tensor = self.projection(out)
        return projected


class FeedForward(nn.Module):
    """Compute two linear maps with ReLU between them; the hidden layer has 4C channels."""

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.contract = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        out: Tensor = self.dropout(self.contract(F.relu(self.expand(x))))
        return out


class Block(nn.Module):
    """Compute a pre-LayerNorm transformer block."""

    def __init__(self, config: ModelConfig, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.n_embd)
        self.attention = SelfAttention(config, attention_dropout)
        self.norm2 = nn.LayerNorm(config.n_embd)
        self.feed_forward = FeedForward(config, dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.attention(self.norm1(x), cache, layer)
        return x + self.feed_forward(self.norm2(x))  # type: ignore[no-any-return]


def _embedding(rows: int, channels: int) -> nn.Embedding:
    """Return an embedding initialised from a narrow uniform distribution."""
    weight = torch.empty(rows, channels).uniform_(-0.1, 0.1)
    embedding: nn.Embedding = nn.Embedding.from_pretrained(weight, freeze=False)  # type: ignore[no-untyped-call]
    return embedding


class GPT(nn.Module):
    """Map (B, T) symbol ids to (B, T, V) logits.

    The blocks are followed by one more feed-forward, without residual or LayerNorm, and the head;
    there is no final LayerNorm.

    Args:
        config: The shape.
        dropout: Fraction of feed-forward outputs dropped in training mode.
        attention_dropout: Fraction of attention weights dropped in training mode. A value above
            zero disables PyTorch's fused CPU attention kernel.
    """

    def __init__(
        self, config: ModelConfig, *, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = _embedding(config.vocab_size, config.n_embd)
        self.position_embedding = _embedding(config.context, config.n_embd)
        self.blocks = nn.ModuleList(
            Block(config, dropout, attention_dropout) for _ in range(config.n_layer)
        )
        self.feed_forward = FeedForward(config, dropout)
        self.head = nn.Linear(config.n_embd, config.vocab_size)

    def initialize(self, generator: torch.Generator) -> None:
        """Initialise every weight from `generator`.

        Embeddings start small because nothing normalises the residual stream before the head, and
        the output matrices of each block start at zero. docs/experiments.md has the gain of each.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        for name, p in self.blocks.named_parameters():
            if name.endswith(("projection.weight", "contract.weight")):
                nn.init.zeros_(p)

    def hidden_matrices(self) -> dict[str, nn.Parameter]:
        """Return the matrices of attention and feed-forwards: all except embeddings and head."""
        return {n: p for n, p in self.named_parameters() if is_hidden_matrix(n, tuple(p.shape))}

    def load_arrays(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Copy the weights of a `Checkpoint` into the model.

        Raises:
            RuntimeError: They have other names or shapes.
        """
        self.load_state_dict({n: torch.from_numpy(array) for n, array in weights.items()})

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return a copy of the weights as a `Checkpoint` holds them: float32 arrays, by name."""
        return {
            name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
            for name, tensor in self.state_dict().items()
        }

    @torch.no_grad()
    def round_to_bfloat16(self) -> None:
        """Round the hidden matrices to bfloat16 values, so that the decoder can store 16 bits."""
        for matrix in self.hidden_matrices().values():
            matrix.copy_(matrix.to(torch.bfloat16))

    def parameter_count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.parameters())

    def training_flops(self) -> float:
        """Return the floating-point operations of a training step per character.

        Forward and backward passes cost six operations for every weight of a matrix product, plus
        attention over half of the context, the average that a position attends to. The formula is
        that of appendix B of "PaLM" (https://arxiv.org/abs/2204.02311), which counts the full
        context.
        """
        config = self.config
        lookups = self.token_embedding.weight.numel() + self.position_embedding.weight.numel()
        attention = 6 * config.n_layer * config.n_embd * config.context
        return 6 * (self.parameter_count() - lookups) + attention

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Compute logits.

        Args:
            ids: (B, T) int64. T must be 1 if `cache` is not empty.
            cache: Receives the keys and values of `ids`, after the positions it already has.

        Returns:
            (B, T, V) logits of the symbol after each position.

        Raises:
            ValueError: There are more positions than the context has, or several at once with a
                cache that is not empty.
        """
        start = cache.length if cache is not None else 0
        time = ids.shape[1]
        if start + time > self.config.context:
            msg = f"{start + time} positions do not fit a context of {self.config.context}"
            raise ValueError(msg)
        if start and time != 1:
            msg = "with a cache that is not empty, positions must be added one at a time"
            raise ValueError(msg)
        x = self.token_embedding(ids) + self.position_embedding.weight[start : start + time]
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)  # (B, T, C)
        if cache is not None:
            cache.length += time
        logits: Tensor = self.head(self.feed_forward(x))
        return logits
