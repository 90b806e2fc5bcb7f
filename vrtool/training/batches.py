"""What a run learns from: the batches of its cache, as its recipe wants them."""

from __future__ import annotations

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import NUM_CHANNELS, Content, ExampleBuilder, TrainingBatches
from vrtool.dataset.pools import make_pools
from vrtool.errors import InputError, RecipeError
from vrtool.model import ModelConfig, Network
from vrtool.training.config import TrainingConfig


def training_batches(
    cache: Cache,
    builder: ExampleBuilder,
    *,
    model: ModelConfig,
    augmentation: AugmentationConfig,
    config: TrainingConfig,
    content: Content,
) -> TrainingBatches:
    """Return the batches of a whole run; raises InputError if the cache does not go together with the recipe."""
    tracks = [track for track in cache.tracks if track.split == "training"]
    pools = make_pools(tracks, augmentation.library_weights)
    if not pools.can_make_examples:
        raise InputError(
            f"{cache.path}: training needs pairs, or instrumentals and vocals to mix; found "
            f"{len(pools.instrumentals)} instrumentals, {len(pools.vocals)} vocals and {len(pools.pairs)} pairs"
        )
    if model.num_channels != NUM_CHANNELS:
        raise RecipeError(
            f"[model] num_channels is {model.num_channels}; training mixes in stereo, set it to {NUM_CHANNELS}"
        )
    if cache.stft.n_fft != model.n_fft:
        raise RecipeError(
            f"{cache.path} was made with n_fft {cache.stft.n_fft}, the recipe says {model.n_fft}; "
            f"prepare another cache, or set [model] n_fft = {cache.stft.n_fft}"
        )
    drawer = PlanDrawer(
        config=augmentation,
        pools=pools,
        crops=CropSchedule(num_frames=config.crop_frames, stages=config.crop_stages),
        seed=config.seed,
    )
    num_steps = -(-(config.epoch_examples or pools.num_starts) // config.examples_per_step)
    return TrainingBatches(
        drawer,
        builder,
        batch_size=config.batch_size,
        epoch_examples=num_steps * config.examples_per_step,
        content=content,
    )


def require_crops_that_fit(network: Network, config: TrainingConfig) -> None:
    """Raise RecipeError if the network takes crops of one length and the recipe has others."""
    required = network.requires_frames
    lengths = config.crop_lengths
    if required is not None and lengths != {required}:
        raise RecipeError(
            f"[training] crops have {' and '.join(map(str, sorted(lengths)))} frames, this network takes exactly "
            f"{required} ([model] crop_frames); set them to the same number"
        )
