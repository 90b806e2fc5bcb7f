"""How attention learns of the distance between frames: three rules, one class each.

Every rule takes queries, keys and values (B, H, T, D) (batch, head, frame, head width), whose frames are aligned, and
returns what the queries gathered, in the same shape. Attention does not know which rule it was given.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Su et al. 2021, "RoFormer", section 3.2.2: rotations from one radian per frame down to about 1 / 10000.
ROTARY_BASE = 10_000.0


class RotaryPosition(nn.Module):
    """Queries and keys are turned by an angle that grows with their frame (Su et al. 2021, section 3.2.2).

    What remains in their product is the distance. It has no table, no length limit, and needs no mask, so that fused
    attention kernels run. Of an odd head width the last bin is not turned.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.num_pairs = head_width // 2

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return what the queries gathered, (B, H, T, D)."""
        turn = self.rotation(query.shape[-2], query.device)
        return functional.scaled_dot_product_attention(_turned(query, *turn), _turned(key, *turn), value)

    def rotation(self, num_frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the cosine and the sine of every frame's angles: shape (T, D // 2), float32."""
        # In float32 even under autocast: an angle in bfloat16 would be off by whole radians after a few hundred frames.
        angles = rotary_angles(0, num_frames, self.num_pairs, dtype=torch.float32, device=device)
        return angles.cos(), angles.sin()


def rotary_angles(
    first_frame: int, num_frames: int, num_pairs: int, *, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """Return the angles (num_frames, num_pairs) of frames `first_frame` and following.

    Su et al. 2021, section 3.2.2: one radian per frame for the first pair of bins, ever less for others.
    """
    frames = torch.arange(first_frame, first_frame + num_frames, device=device, dtype=dtype)
    pairs = torch.arange(num_pairs, device=device, dtype=dtype)
    return torch.outer(frames, ROTARY_BASE ** (-pairs / max(num_pairs, 1)))


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return x (..., T, D) with the pairs of values d and D // 2 + d turned."""
    num_pairs, num_odd = cosine.shape[-1], x.shape[-1] % 2
    cosine = functional.pad(cosine.repeat(1, 2), (0, num_odd), value=1.0).to(x.dtype)
    sine = functional.pad(torch.cat((-sine, sine), dim=-1), (0, num_odd)).to(x.dtype)
    first, second, odd = x.tensor_split((num_pairs, 2 * num_pairs), dim=-1)
    return torch.addcmul(x * cosine, torch.cat((second, first, odd), dim=-1), sine)


class RelativePosition(nn.Module):
    """A learned vector per distance: logits (q_i . k_j + q_i . e_(j-i)) / sqrt(D).

    Shaw et al. 2018, "Self-Attention with Relative Position Representations", section 3.2, with the skewing of Huang et
    al. 2018, "Music Transformer", section 3.4.1, for both directions. Distances beyond `crop_frames` - 1 count as that,
    so that longer inputs than the trained ones work. The table is shared by all bands.
    """

    def __init__(self, head_width: int, crop_frames: int) -> None:
        super().__init__()
        # Row crop_frames - 1 + n belongs to a key n frames after its query. Small: content decides at first.
        self.table = nn.Parameter(torch.randn(2 * crop_frames - 1, head_width) * 0.02)
        self.furthest = crop_frames - 1

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return what the queries gathered, (B, H, T, D)."""
        scale = query.shape[-1] ** -0.5
        bias = self.distance_logits(query * scale)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)

    def distance_logits(self, query: Tensor) -> Tensor:
        """Return q_i . e_(j-i) for query frame i and key frame j: (B, H, T, D) to (B, H, T, T)."""
        num_frames = query.shape[-2]
        # One column more than there are distances, never read: it makes the rows 2T long, see `_skewed`.
        distances = torch.arange(1 - num_frames, num_frames + 1, device=query.device)
        rows = self.table[distances.clamp(-self.furthest, self.furthest) + self.furthest]
        return _skewed(query @ rows.to(query.dtype).T)


def _skewed(by_distance: Tensor) -> Tensor:
    """Return logits by query and key (..., T, T) from logits by query and distance -(T-1)..T (..., T, 2T).

    Key j of query i stands in row i at column (j - i) + T - 1: in flat memory at 2T i + j - i + T - 1, which is
    (2T - 1) i + j after the first T - 1 values. So rows of 2T - 1 values put key j of every query in column j.
    """
    num_frames = by_distance.shape[-2]
    flat = by_distance.flatten(-2)[..., num_frames - 1 : -1]
    return flat.view(*by_distance.shape[:-1], 2 * num_frames - 1)[..., :num_frames]


class AncestorPosition(nn.Module):
    """What the ancestor's code computes: logits (q_i . k_j + q_j . E_i) / sqrt(F) for query frame i and key frame j.

    The table E (head width, crop) has a column per absolute frame of the query, where the music transformer's skew
    should be, and F is all bins of all bands. Kept because published weights need exactly that.
    """

    def __init__(self, head_width: int, crop_frames: int, num_bins: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(head_width, crop_frames))
        self.scale = num_bins**-0.5

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return what the queries gathered, (B, H, T, D)."""
        # Both terms are one product of twice the width, [q_i, E_i] . [k_j, q_j], which fused attention takes without a
        # (T, T) mask, whose gradient would need several such planes per band; zeros bring the values to that width.
        # Both factors are views of one tensor [k, q, E].
        width = query.shape[-1]
        rows = self.table.T.contiguous().to(query.dtype).expand_as(query)
        joined = torch.cat((key, query, rows), dim=-1)
        gathered = functional.scaled_dot_product_attention(
            joined[..., width:], joined[..., : 2 * width], functional.pad(value, (0, width)), scale=self.scale
        )
        return gathered[..., :width]


# The rules by the name that ModelConfig.position gives them, each made from (num_bins, num_bands, crop_frames).
POSITIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "rotary": lambda bins, bands, _: RotaryPosition(bins // bands),
    "relative": lambda bins, bands, frames: RelativePosition(bins // bands, frames),
    "ancestor": lambda bins, bands, frames: AncestorPosition(bins // bands, frames, bins),
}
