"""The terms of the loss: their formulas, their units, their gradients, and what a recipe may say of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec, istft
from vrtool.audio.spectrogram import stft as stft_of
from vrtool.errors import RecipeError
from vrtool.model.masking import masked_l1_loss
from vrtool.recipe import parse_recipe
from vrtool.training.config import TrainingConfig
from vrtool.training.losses import TERMS, TrainingLoss, Truth

SPEC = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)
NUM_FRAMES = 30
RESOLUTIONS = (128, 512)


def song(seed: int, level: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return samples of instrumental and vocals, (channel, sample): noise of changing level, as long as a crop."""
    rng = np.random.default_rng(seed)
    num_samples = (NUM_FRAMES - 1) * SPEC.hop_length
    envelope = level * 10.0 ** rng.uniform(-1.5, 0.0, (2, 1, NUM_FRAMES - 1)).repeat(SPEC.hop_length, axis=2)
    samples = (envelope * rng.standard_normal((2, 2, num_samples))).astype(np.float32)
    instrumental, vocals = torch.from_numpy(samples)
    return instrumental, vocals


def batch_of(*songs: tuple[Tensor, Tensor]) -> Tensor:
    """Return spectrograms (2 targets, B, C, F, T), each song's divided by its largest magnitude."""
    examples = []
    for instrumental, vocals in songs:
        signals = (instrumental + vocals).numpy(), instrumental.numpy()
        pair = np.stack([stft_of(samples, SPEC) for samples in signals])
        examples.append(torch.from_numpy(pair / max(np.abs(pair).max(), 1e-9)))
    return torch.stack(examples, dim=1)


def mask_for(batch: Tensor, seed: int = 0) -> Tensor:
    shape = batch.shape[1:]
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=batch.real.dtype)


def value(name: str, mask: Tensor, batch: Tensor) -> Tensor:
    total, _ = TrainingLoss({name: 1.0}, SPEC, RESOLUTIONS)(mask, Truth(batch))
    return total


class TestValues:
    def test_the_l1_of_magnitudes_is_the_one_that_validation_uses_to_the_bit(self) -> None:
        magnitudes = batch_of(song(0), song(1)).abs().clamp(max=1.0)
        mask = mask_for(magnitudes)
        assert value("l1", mask, magnitudes) == masked_l1_loss(mask, *magnitudes)
        assert value("l1", mask, batch_of(song(0), song(1))) == masked_l1_loss(mask, *magnitudes)

    def test_the_waveforms_l1_is_that_of_what_separation_would_write(self) -> None:
        batch = batch_of(song(0))
        mask = mask_for(batch)
        mixture, instrumental = (istft(one.numpy(), SPEC, (NUM_FRAMES - 1) * SPEC.hop_length) for one in batch[:, 0])
        estimate = istft((mask[0] * batch[0, 0]).numpy(), SPEC, mixture.shape[1])
        for truth, stem in ((instrumental, estimate), (mixture - instrumental, mixture - estimate)):
            expected = np.abs(truth - stem).mean() * math.sqrt(3 / 8 * SPEC.n_fft)
            assert float(value("waveform", mask, batch)) == pytest.approx(expected, rel=1e-4)

    def test_the_stft_term_is_the_papers_formula_over_both_stems(self) -> None:
        batch = batch_of(song(0), song(1, level=0.3))
        mask = mask_for(batch)
        expected = []
        for number in range(2):
            num_samples = (NUM_FRAMES - 1) * SPEC.hop_length
            mixture, instrumental = (istft(one.numpy(), SPEC, num_samples) for one in batch[:, number])
            estimate = istft((mask[number] * batch[0, number]).numpy(), SPEC, num_samples)
            terms = []
            for n_fft in RESOLUTIONS:
                for truth, stem in ((instrumental, estimate), (mixture - instrumental, mixture - estimate)):
                    wanted, found = (
                        torch.stft(
                            torch.from_numpy(samples), n_fft, n_fft // 4, window=torch.hann_window(n_fft), center=False,
                            return_complex=True,
                        ).abs().clamp(min=1e-4 * n_fft / SPEC.n_fft).double()
                        for samples in (truth, stem)
                    )  # fmt: skip
                    terms.append((found - wanted).norm() / wanted.norm() + (found.log() - wanted.log()).abs().mean())
            expected.append(torch.stack(terms).mean() * batch[0, number].abs().mean())
        assert float(value("stft", mask, batch)) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)

    @pytest.mark.parametrize("name", TERMS)
    def test_the_true_mask_has_no_loss_and_finite_gradients(self, name: str) -> None:
        instrumental, vocals = song(0)
        batch = batch_of((instrumental, 0.5 * instrumental), (instrumental, 0 * vocals), (0 * instrumental, vocals))
        mask = torch.ones_like(batch[0].real)
        mask[0], mask[2] = 2 / 3, 0.0
        mask.requires_grad_()
        loss = value(name, mask, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) < 1e-5
        assert mask.grad is not None
        assert torch.isfinite(mask.grad).all()

    @pytest.mark.parametrize("name", TERMS)
    def test_silence_has_no_loss_and_no_gradient(self, name: str) -> None:
        instrumental, vocals = song(0, level=0.0)
        batch = batch_of((instrumental, vocals))
        mask = mask_for(batch).requires_grad_()
        loss = value(name, mask, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0.0
        assert mask.grad is not None
        assert not mask.grad.any()

    @pytest.mark.parametrize("name", TERMS)
    def test_a_batch_is_the_mean_of_its_examples(self, name: str) -> None:
        """So that batch_size and accumulate_batches can be traded for each other."""
        batch = batch_of(song(0), song(1, level=0.1), song(2))
        mask = mask_for(batch)
        alone = [value(name, mask[i : i + 1], batch[:, i : i + 1]) for i in range(3)]
        assert float(value(name, mask, batch)) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)

    def test_errors_have_about_the_same_size_in_every_term(self) -> None:
        batch = batch_of(song(0), song(1))
        sizes = {name: float(value(name, torch.full_like(batch[0].real, 0.5), batch)) for name in TERMS}
        assert sizes["l1"] / 2 < sizes["waveform"] < sizes["l1"] * 2
        assert sizes["l1"] < sizes["stft"] < sizes["l1"] * 5

    def test_the_sum_is_weighted_and_its_terms_are_told_before(self) -> None:
        batch = batch_of(song(0))
        mask = mask_for(batch).requires_grad_()
        loss = TrainingLoss({"l1": 2.0, "waveform": 0.25, "stft": 0.0}, SPEC, RESOLUTIONS)
        total, terms = loss(mask, Truth(batch))
        assert loss.names == ("l1", "waveform")
        assert not terms.requires_grad
        assert float(total.detach()) == pytest.approx(2.0 * float(terms[0]) + 0.25 * float(terms[1]))
        assert terms.tolist() == [float(value(name, mask, batch).detach()) for name in loss.names]


class TestGradients:
    @pytest.mark.parametrize("name", TERMS)
    def test_they_are_those_of_small_differences(self, name: str) -> None:
        spec = StftSpec(sample_rate=8000, n_fft=16, hop_length=8)
        rng = torch.Generator().manual_seed(1)
        mixture, instrumental = torch.randn(2, 2, 1, spec.num_bins, 6, dtype=torch.complex128, generator=rng)
        batch = torch.stack([mixture, instrumental]) / 5.0
        mask = mask_for(batch).requires_grad_()
        loss = TrainingLoss({name: 1.0}, spec, (16, 32))
        assert torch.autograd.gradcheck(lambda x: loss(x, Truth(batch))[0], (mask,))

    def test_they_are_float32_from_a_mask_in_bfloat16(self) -> None:
        batch = batch_of(song(0))
        mask = mask_for(batch).bfloat16().requires_grad_()
        total, _ = TrainingLoss(dict.fromkeys(TERMS, 1.0), SPEC, RESOLUTIONS)(mask.float(), Truth(batch))
        assert total.dtype == torch.float32
        total.backward()  # type: ignore[no-untyped-call]
        assert mask.grad is not None
        assert torch.isfinite(mask.grad).all()

    @pytest.mark.parametrize("name", TERMS)
    def test_they_lead_from_anywhere_to_a_mask_that_separates(self, name: str) -> None:
        """Instrumental below 2 kHz, vocals above: the mask must become 1 and 0."""
        instrumental, vocals = (torch.from_numpy(istft(band.numpy(), SPEC, (NUM_FRAMES - 1) * 128)) for band in bands())
        batch = batch_of((instrumental, vocals))
        logits = torch.zeros(batch.shape[1:], requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=0.2)
        for _ in range(60):
            optimiser.zero_grad()
            value(name, torch.sigmoid(logits), batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        mask = torch.sigmoid(logits.detach())
        assert float(mask[..., 5:60, 2:-2].mean()) > 0.95
        assert float(mask[..., 70:125, 2:-2].mean()) < 0.05


def bands() -> Tensor:
    """Return spectrograms of noise below and above bin 64: (2, channel, bin, frame)."""
    noise = torch.randn(2, 2, 129, NUM_FRAMES, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    noise[0, :, 64:] = 0.0
    noise[1, :, :64] = 0.0
    return noise


class TestNeeds:
    @pytest.mark.parametrize("name", TERMS)
    def test_phases_are_asked_for_by_the_terms_that_listen_alone(self, name: str) -> None:
        content = TrainingLoss({"l1": 1.0, name: 0.1}, SPEC, RESOLUTIONS).content
        assert content == ("magnitudes" if name == "l1" else "spectrograms")
        assert TrainingLoss({"l1": 1.0, name: 0.0 if name != "l1" else 1.0}, SPEC, RESOLUTIONS).content == "magnitudes"

    def test_crops_too_short_to_hear_are_refused(self) -> None:
        loss = TrainingLoss({"stft": 1.0}, SPEC, RESOLUTIONS)
        loss.require_crop(5)
        with pytest.raises(RecipeError, match="4 frames give the losses 384 samples to hear, expected 512 or more"):
            loss.require_crop(4)
        with pytest.raises(RecipeError, match="1 frames give the losses 0 samples to hear"):
            TrainingLoss({"waveform": 1.0}, SPEC, RESOLUTIONS).require_crop(1)
        TrainingLoss({"l1": 1.0}, SPEC, RESOLUTIONS).require_crop(1)


class TestRecipe:
    def test_the_default_is_the_l1_of_magnitudes(self) -> None:
        assert TrainingConfig().losses == {"l1": 1.0}

    @pytest.mark.parametrize("text", ["losses = { l1 = 1, stft = 0.1 }", "losses.l1 = 1.0\nlosses.stft = 0.1"])
    def test_weights_are_a_table(self, text: str) -> None:
        recipe = parse_recipe(f"[training]\n{text}\nstft_loss_n_fft = [512]\n", origin="my.toml")
        assert recipe.training.losses == {"l1": 1.0, "stft": 0.1}
        assert recipe.training.stft_loss_n_fft == (512,)
        assert parse_recipe(recipe.text, origin="my.toml") == recipe

    @pytest.mark.parametrize(("text", "message"), [
        ("losses = { l2 = 1.0 }", r"\[training\] losses has no 'l2'; known are l1, stft, waveform"),
        ("losses = { l1 = -1.0 }", r"\[training\] losses: the weight of l1 must be 0 or more, found -1\.0"),
        ("losses = { l1 = inf }", r"\[training\] losses: the weight of l1 must be 0 or more, found inf"),
        ("losses = { l1 = nan }", r"\[training\] losses: the weight of l1 must be 0 or more, found nan"),
        ("losses = { l1 = 0.0, stft = 0 }", r"\[training\] losses must have a weight above 0, such as .*; found none"),
        ("losses = {}", r"\[training\] losses must have a weight above 0"),
        ("losses = 'l1'", r"\[training\] losses must be a table such as"),
        ("stft_loss_n_fft = []", r"\[training\] stft_loss_n_fft must be one or more multiples of 4 samples.* \[\]"),
        ("stft_loss_n_fft = [1024, 1023]", r"\[training\] stft_loss_n_fft must be .* found \[1024, 1023\]"),
        ("stft_loss_n_fft = [0]", r"\[training\] stft_loss_n_fft must be .* found \[0\]"),
    ])  # fmt: skip
    def test_what_is_wrong_is_named(self, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=rf"^my\.toml: {message}"):
            parse_recipe(f"[training]\n{text}\n", origin="my.toml")
