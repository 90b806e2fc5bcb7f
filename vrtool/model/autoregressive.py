"""The autoregressive frame transformer: masks from its own output so far and a mixture heard a little ahead.

A causal decoder in the shape of the frame transformer, after the idea (not the code, which its author called broken) of
the autoregressive variant of carperbr's vocal-remover-frame-transformer. Training shows it a past of all frames at
once; separation lets it go frame by frame on its own output, at a constant cost per frame, so that a song of any length
is one pass. Features are (B, T, F, C): batch, frame, bin, channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.errors import RecipeError
from vrtool.model.autoregressive_stream import Stream, stems
from vrtool.model.causal import Reach
from vrtool.model.causal_levels import Ascent, Descent, FrameEmbedding, Heard, Level
from vrtool.model.config import ModelConfig
from vrtool.model.layout import frame_mask
from vrtool.model.levels import level_bins, level_widths, require_bands_that_fit
from vrtool.model.masking import estimate_instrumental
from vrtool.model.network import MaskStream, Network
from vrtool.model.past import Memory, Past, SongStart

# Frames of a mixture that are embedded at once when all of it is there: enough for the products to be efficient.
EMBEDDED_FRAMES = 128


class AutoregressiveFrameTransformer(Network):
    """Magnitudes to the instrumental's mask, a frame after the other.

    The mixture's frames are embedded on their own, and on each level an encoder lets them know of their neighbours.
    Decoder blocks on the way up look back at what the decoder made, and at the encoded mixture from as far back to as
    far ahead as `look_ahead_frames` allow. Lists of parts are in the order of levels, finest first. Norms see one
    frame at a time.
    """

    settings = frozenset(
        {
            "num_channels", "n_fft", "channels", "num_bands", "feedforward_dim", "num_decoders", "crop_frames",
            "dropout", "bias", "compression", "look_ahead_frames", "own_past_share", "true_past_share",
        }
    )  # fmt: skip

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.look_ahead_frames = config.look_ahead_frames if config.look_ahead_frames >= 0 else None
        self.reach = Reach.within(config)
        widths = level_widths(config)
        self.mixture_descent = Descent(config.num_channels, widths)
        self.past_descent = Descent(2 * config.num_channels, widths)
        self.ascents = nn.ModuleList(
            Ascent(below + 1 + config.num_decoders + width, width) for width, below in pairwise(widths)
        )
        self.levels = nn.ModuleList(
            Level(width, bins, config, self.reach)
            for width, bins in zip(widths, level_bins(config.n_fft // 2), strict=True)
        )
        # Without the norm of a last embedding, logits grow with the blocks' sums until the sigmoid has no slope left.
        self.output = nn.Sequential(
            FrameEmbedding(widths[0] + 1 + config.num_decoders, widths[0]), nn.Linear(widths[0], config.num_channels)
        )

    @classmethod
    def require_buildable(cls, config: ModelConfig) -> None:
        """Raise RecipeError unless every level's bins can be shared out evenly among bands, an even number to each."""
        require_bands_that_fit(config)
        if (width := level_bins(config.n_fft // 2)[-1] // config.num_bands) % 2:
            raise RecipeError(
                f"bands of the deepest level must have an even number of bins, found {width}; halve num_bands = "
                f"{config.num_bands} or double n_fft = {config.n_fft}"
            )

    @torch.no_grad()
    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] that the network makes on its own, frame by frame, without gradients.

        From magnitudes of the same shape in [0, 1]; InputError for others.
        """
        self.require_shape(magnitude)
        everything = magnitude.shape[3] + self.reach.delay
        stream = Stream(self, everything if self.look_ahead_frames is None else self.look_ahead_frames)
        masks = [stream.push(frames) for frames in torch.split(magnitude, EMBEDDED_FRAMES, dim=3)]
        return torch.cat([*masks, stream.finish()], dim=3)

    def open_stream(self) -> MaskStream:
        """Return the start of a song in one pass; InputError if the look-ahead is unlimited."""
        return super().open_stream() if self.look_ahead_frames is None else Stream(self, self.look_ahead_frames)

    def training_mask(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) from the mixture and a past as training varies it, all frames at once.

        At separation the past is the network's own output, made of nothing but the mixture. A batch is shown, in shares
        that the settings give, the truth (B, C, F, T) more or less spoiled, which is teacher forcing; the network's own
        output from a first pass, which is scheduled sampling in two passes (after Mihaylova and Martins 2019,
        "Scheduled Sampling for Transformers", section 3, whose first pass sees the truth); or a share of the mixture,
        which is all that a first pass is given.
        """
        heard = self._heard(mixture)
        return self._masks(heard, mixture, self._training_past(heard, mixture, instrumental))

    def _training_past(self, heard: list[Heard], mixture: Tensor, instrumental: Tensor) -> Tensor:
        draw, config = float(torch.rand(())), self.config
        if draw < config.true_past_share:
            return _spoiled(mixture, instrumental)
        unknowing = _random_shares(mixture) * mixture
        if draw >= config.true_past_share + config.own_past_share:
            return unknowing
        with torch.no_grad():
            first = self._masks(heard, mixture, unknowing)
        # Under autocast older versions of torch would go on with weights converted here, which know of no gradients.
        torch.clear_autocast_cache()
        return estimate_instrumental(first, mixture)

    def parallel_mask(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) that each frame has after the frames of `instrumental` before it.

        Given what the mask makes of the mixture, frame by frame, it is what `forward` returns.
        """
        return self._masks(self._heard(mixture), mixture, instrumental)

    def _heard(self, mixture: Tensor) -> list[Heard]:
        """Return what every level is given of a whole mixture (B, C, F, T)."""
        delay, features = self.reach.delay, self.embed(mixture)
        late = [functional.pad(x, (0, 0, 0, 0, 0, delay)) for x in features]
        return [
            Heard(x, encoded[:, delay:], [Memory(keys[:, delay:], values[:, delay:], 0) for keys, values in kept])
            for x, (encoded, kept) in zip(features, self.hear(late, SongStart(-delay)), strict=True)
        ]

    def _masks(self, heard: list[Heard], mixture: Tensor, instrumental: Tensor) -> Tensor:
        before = functional.pad(stems(mixture, instrumental)[..., :-1], (1, 0))
        return self.decode(heard, before, SongStart())

    def compile(self, *_: object, **__: object) -> None:
        """Raise RecipeError: what goes frame by frame and keeps states is nothing for a compiler."""
        raise RecipeError("autoregressive networks are not compiled; leave training.compile out")

    def embed(self, mixture: Tensor) -> list[Tensor]:
        """Return the features (B, n, F, width) of every level, finest first, for magnitudes (B, C, F + 1, n)."""
        features: list[Tensor] = self.mixture_descent(mixture**self.config.compression)
        return features

    def hear(self, features: list[Tensor], past: Past) -> list[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
        """Return what each level's `hear` makes of the mixture's features, late by the reach's delay."""
        levels = cast(Iterable[Level], self.levels)
        return [level.hear(x, past) for level, x in zip(levels, features, strict=True)]

    def decode(self, mixture: list[Heard], before: Tensor, past: Past) -> Tensor:
        """Return the mask (B, C, F, n) of n frames.

        From what each level is given of the mixture, and the stems (B, 2 C, F, n) of the frame before each of them.
        """
        own = self.past_descent(before**self.config.compression)
        skips = [heard.features + made for heard, made in zip(mixture, own, strict=True)]
        x = skips[-1]
        for level in reversed(range(len(skips))):
            if level < len(skips) - 1:
                x = self.ascents[level](x, skips[level])
            x = self.levels[level](x, mixture[level], past)
        return frame_mask(self.output(x))


def _spoiled(mixture: Tensor, instrumental: Tensor) -> Tensor:
    """Return the instrumental (B, C, F, T) as a separation gone more or less wrong would have left it.

    Each example's true mask is drawn more or less far towards one share for all bins: towards 1, vocals leak in;
    towards 0, music is lost.
    """
    truth = torch.minimum(instrumental, mixture)
    return truth + _random_shares(mixture) * (_random_shares(mixture) * mixture - truth)


def _random_shares(mixture: Tensor) -> Tensor:
    """Return a share in [0, 1) for each example: (B, 1, 1, 1)."""
    return torch.rand(mixture.shape[0], 1, 1, 1).to(mixture.device)
