"""Dropout whose random numbers are cheap."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Each value is kept or zeroed by 16 random bits, of which torch's generator makes 64 at once.
NUM_LEVELS = 1 << 16
PER_DRAW = 4


class Dropout(nn.Dropout):
    """Zeroes a share `p` of the values in training, to a 65,536th, and scales the others so that the mean stays.

    torch's own draws a number of 32 bits and keeps a float for every value; on CPUs that took as long as the attention
    it follows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the values kept, scaled, and zeros; x itself where nothing is dropped."""
        num_dropped = min(round(self.p * NUM_LEVELS), NUM_LEVELS - 1)
        if not self.training or num_dropped == 0:
            return x
        limits = torch.iinfo(torch.int64)
        num_draws = -(-x.numel() // PER_DRAW)
        draws = torch.randint(limits.min, limits.max, (num_draws,), dtype=torch.int64, device=x.device)
        levels = draws.view(torch.int16)[: x.numel()].view(x.shape)
        kept = levels >= num_dropped - NUM_LEVELS // 2
        return torch.where(kept, x * (NUM_LEVELS / (NUM_LEVELS - num_dropped)), 0.0)
