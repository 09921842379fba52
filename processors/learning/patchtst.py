"""PatchTST: a series is cut into patches, the patches are the words, a plain transformer encoder reads them.

After Nie et al., "A Time Series is Worth 64 Words" (ICLR 2023): overlapping patches, learnt positions, batch normalisation
instead of layer normalisation, a flat linear head. Two forms:

`PatchTST`        each channel alone through the same network, normalised by its own window: the paper's, for its benchmark
`MixedPatchTST`   a patch holds all channels: for many features of one candle, where the channels are not series to forecast
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from processors.learning.layers import Dropout


class Encoder(nn.Module):
    """Tokens [batch, tokens, width of a patch] -> [batch, tokens, width]."""

    def __init__(self, patch: int, tokens: int, *, width: int, heads: int, layers: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(patch, width)
        self.position = nn.Parameter(torch.empty(tokens, width).uniform_(-0.02, 0.02))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(tokens, width, heads, inner, dropout) for _ in range(layers))

    def forward(self, patches: Tensor) -> Tensor:
        x = self.dropout(self.embed(patches) + self.position)
        for layer in self.layers:
            x = layer(x)
        return x


class _Layer(nn.Module):
    def __init__(self, tokens: int, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.tokens, self.width, self.heads, self.each = tokens, width, heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norms = nn.ModuleList([nn.BatchNorm1d(width), nn.BatchNorm1d(width)])
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(-1, self.tokens, 3, self.heads, self.each).permute(2, 0, 3, 1, 4).unbind(0)
        seen = torch.softmax(q @ k.transpose(-2, -1) * self.each**-0.5, dim=-1) @ v
        x = self._norm(0, x + self.dropout(self.out(seen.transpose(1, 2).reshape(-1, self.tokens, self.width))))
        return self._norm(1, x + self.dropout(self.down(self.dropout(functional.gelu(self.up(x))))))

    def _norm(self, which: int, x: Tensor) -> Tensor:
        return self.norms[which](x.reshape(-1, self.width)).reshape(-1, self.tokens, self.width)


class PatchTST(nn.Module):
    """[batch, lookback, channels] -> [batch, horizon, channels]."""

    def __init__(
        self,
        lookback: int,
        horizon: int,
        channels: int,
        *,
        patch: int = 16,
        stride: int = 8,
        width: int = 16,
        heads: int = 4,
        layers: int = 3,
        inner: int = 128,
        dropout: float = 0.3,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        tokens = (lookback - patch) // stride + 2  # the end is repeated for one stride
        self.lookback, self.horizon, self.channels = lookback, horizon, channels
        self.patch, self.stride, self.flat = patch, stride, tokens * width
        self.encoder = Encoder(patch, tokens, width=width, heads=heads, layers=layers, inner=inner, dropout=dropout)
        self.head = nn.Sequential(Dropout(head_dropout), nn.Linear(self.flat, horizon))
        self.gain, self.shift = nn.Parameter(torch.ones(channels, 1)), nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        mean = x.mean(dim=2, keepdim=True)
        spread = torch.sqrt(((x - mean) ** 2).mean(dim=2, keepdim=True) + 1e-5)
        x = ((x - mean) / spread * self.gain + self.shift).reshape(-1, self.lookback)
        x = torch.cat([x, x[:, -1:].expand(-1, self.stride)], dim=1)
        tokens = self.encoder(x.unfold(1, self.patch, self.stride))
        said = self.head(tokens.reshape(-1, self.flat)).reshape(-1, self.channels, self.horizon)
        return ((said - self.shift) / (self.gain + 1e-10) * spread + mean).transpose(1, 2)


class MixedPatchTST(nn.Module):
    """[batch, lookback, channels] -> [batch, outputs]; patches do not overlap."""

    def __init__(
        self,
        lookback: int,
        outputs: int,
        channels: int,
        *,
        patch: int,
        width: int,
        heads: int,
        layers: int,
        inner: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens, self.patch, self.flat = lookback // patch, patch * channels, lookback // patch * width
        self.encoder = Encoder(self.patch, self.tokens, width=width, heads=heads, layers=layers, inner=inner, dropout=dropout)
        self.head = nn.Sequential(Dropout(dropout), nn.Linear(self.flat, outputs))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.encoder(x.reshape(-1, self.tokens, self.patch))
        return self.head(tokens.reshape(-1, self.flat))
