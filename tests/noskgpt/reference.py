"""Implement the reference network naively, one module per head, with its `state_dict` names."""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Compute one attention head; scores are scaled by the embedding size."""

    tril: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.key = nn.Linear(128, 32, bias=False)
        self.query = nn.Linear(128, 32, bias=False)
        self.value = nn.Linear(128, 32, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(256, 256)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        scores = self.query(x) @ self.key(x).mT / 128**0.5
        scores = scores.masked_fill(self.tril[:time, :time] == 0, float("-inf"))
        out: Tensor = self.dropout(scores.softmax(-1)) @ self.value(x)
        return out


class SelfAttention(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(dropout) for _ in range(4))
        self.projection = nn.Linear(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.projection(torch.cat([head(x) for head in self.heads], dim=-1))
        return out


class FeedForward(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x)
        return out


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.self_attention = SelfAttention(dropout)
        self.feedforward = FeedForward(dropout)
        self.layernorm1 = nn.LayerNorm(128)
        self.layernorm2 = nn.LayerNorm(128)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attention(self.layernorm1(x))
        out: Tensor = x + self.feedforward(self.layernorm2(x))
        return out


class Reference(nn.Module):
    """Map (B, T) ids to (B, T, 65) logits."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(65, 128)
        self.position_embedding_table = nn.Embedding(256, 128)
        self.transformer_blocks = nn.ModuleList(Block(dropout) for _ in range(5))
        self.feedforward = FeedForward(dropout)
        self.output_head = nn.Linear(128, 65)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.token_embedding_table(ids) + self.position_embedding_table(positions)
        for block in self.transformer_blocks:
            x = block(x)
        out: Tensor = self.output_head(self.feedforward(x))
        return out
