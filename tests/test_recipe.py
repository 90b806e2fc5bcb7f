from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.errors import InputError, RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.frame_transformer import FrameTransformer
from vrtool.recipe import Recipe, load_recipe, parse_recipe, to_toml
from vrtool.training.config import TrainingConfig

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))

keys = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
# Lone surrogates are no text, and TOML wants DEL and its like escaped in a way of its own.
printable = st.text(st.characters(exclude_categories=("Cs", "Cc")))
plain = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | printable
values = st.recursive(
    plain,
    # Keys of tables are names that people gave to folders.
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(keys, st.dictionaries(keys, values), max_size=3)


def parse(text: str, *overrides: str) -> Recipe:
    return parse_recipe(text, origin="my.toml", overrides=overrides)


class TestWhatARecipeSays:
    def test_what_it_leaves_out_keeps_its_default(self) -> None:
        recipe = parse("")
        assert recipe.stft is None
        assert recipe.model == ModelConfig()
        assert recipe.augmentation == AugmentationConfig()
        assert recipe.training == TrainingConfig()

    def test_every_section_reaches_its_owner(self) -> None:
        recipe = parse(
            "[stft]\nhop_length = 512\n[model]\nchannels = 4\nnorm = 'post'\nbias = false\n"
            "[augmentation]\nvocals_level_db = [-6, 3.5]\n[training]\nlearning_rate = 1\nnum_steps = 7\n"
        )
        assert recipe.stft == StftSpec(hop_length=512)
        assert recipe.model == ModelConfig(channels=4, norm="post", bias=False)
        assert recipe.augmentation == AugmentationConfig(vocals_level_db=(-6.0, 3.5))
        assert recipe.training == TrainingConfig(learning_rate=1.0, num_steps=7)
        assert type(recipe.training.learning_rate) is float

    def test_stages_of_crops_are_pairs(self) -> None:
        assert parse("[training]\ncrop_stages = [[10, 256], [20, 512]]\n").training.crop_stages == (
            (10, 256),
            (20, 512),
        )
        assert parse("[training]\ncrop_stages = []\n").training.crop_stages == ()
        assert parse("", "training.crop_stages=[[1, 8]]").training.crop_stages == ((1, 8),)

    @pytest.mark.parametrize("text", [
        '[augmentation]\nlibrary_weights = { "vocal/choirs" = 0.5, "pair/夜 🎤 #1" = 2 }\n',
        '[augmentation.library_weights]\n"vocal/choirs" = 0.5\n"pair/夜 🎤 #1" = 2\n',
    ])  # fmt: skip
    def test_weights_are_a_table_of_libraries(self, text: str) -> None:
        recipe = parse(text)
        assert recipe.augmentation.library_weights == {"vocal/choirs": 0.5, "pair/夜 🎤 #1": 2.0}
        assert all(type(weight) is float for weight in recipe.augmentation.library_weights.values())
        assert parse(recipe.text) == recipe

    def test_weights_can_be_set_on_the_command_line(self) -> None:
        recipe = parse("", 'augmentation.library_weights={ "vocal/choirs" = 3 }')
        assert recipe.augmentation.library_weights == {"vocal/choirs": 3.0}

    def test_every_default_can_be_written_down(self) -> None:
        owners: tuple[Any, ...] = (StftSpec(), ModelConfig(), AugmentationConfig(), TrainingConfig())
        values: dict[str, dict[str, Any]] = {}
        for section, owner in zip(("stft", "model", "augmentation", "training"), owners, strict=True):
            settings = {field.name: getattr(owner, field.name) for field in fields(owner)}
            if section == "model":
                settings = {name: settings[name] for name in ("architecture", *sorted(FrameTransformer.settings))}
            values[section] = {
                key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()
            }
        recipe = parse(to_toml(values))
        assert (recipe.stft, recipe.model, recipe.augmentation, recipe.training) == owners

    def test_its_text_gives_it_again_overrides_and_all(self) -> None:
        text = "[model]\nchannels = 4\n[stft]\nhop_length = 512\n[training]\ncrop_stages = [[1, 2], [3, 4]]\n"
        recipe = parse(text, "training.num_steps=9", "model.norm=post")
        again = parse(recipe.text)
        assert again == recipe
        assert again.training.num_steps == 9

    def test_the_models_bins_follow_the_stft(self) -> None:
        assert parse("[stft]\nn_fft = 1024\nhop_length = 512\n").model.n_fft == 1024

    def test_crops_tell_how_far_position_tables_reach_where_there_are_any(self) -> None:
        crops = "[training]\ncrop_frames = 96\n"
        assert parse(crops).model.crop_frames == 96
        assert parse(crops + "[model]\ncrop_frames = 48\n").model.crop_frames == 48
        unet = parse(crops + "[model]\narchitecture = 'unet'\n")
        assert unet.model == ModelConfig(architecture="unet")
        assert parse(unet.text) == unet

    def test_every_architecture_takes_its_own_settings(self) -> None:
        recipe = parse("", "model.architecture=autoregressive", "model.look_ahead_frames=4")
        assert recipe.model.look_ahead_frames == 4

    @settings(deadline=None)
    @given(document=documents)
    def test_toml_is_written_as_it_is_read(self, document: dict[str, dict[str, Any]]) -> None:
        assert tomllib.loads(to_toml(document)) == document

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
    def test_the_recipes_that_come_with_vrtool_are_valid(self, path: Path) -> None:
        assert load_recipe(path).text


class TestOverrides:
    @pytest.mark.parametrize(("override", "expected"), [
        ("training.num_steps=12", 12), ("training.num_steps = 12", 12), (" training.num_steps=12 ", 12),
    ])  # fmt: skip
    def test_a_number(self, override: str, expected: int) -> None:
        assert parse("[training]\nnum_steps = 5\n", override).training.num_steps == expected

    @pytest.mark.parametrize("text", ["adamw", "'adamw'", '"adamw"'])
    def test_a_text_with_or_without_quotes(self, text: str) -> None:
        assert parse("", f"training.optimiser={text}").training.optimiser == "adamw"

    def test_a_list_and_a_truth_value(self) -> None:
        recipe = parse("", "augmentation.vocals_pan_db=[0, 1]", "model.bias=false")
        assert recipe.augmentation.vocals_pan_db == (0.0, 1.0)
        assert recipe.model.bias is False

    def test_the_last_one_counts(self) -> None:
        assert parse("", "training.seed=1", "training.seed=2").training.seed == 2

    @pytest.mark.parametrize("override", ["", "=", "training", "num_steps=3", "training.=3", ".num_steps=3", "a.b"])
    def test_one_that_is_none_is_refused_with_an_example(self, override: str) -> None:
        with pytest.raises(RecipeError, match=r"expected section\.key=value, such as training\.num_steps=1000"):
            parse("", override)

    def test_one_for_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"\[training\] has no key 'num_stepz'; did you mean 'num_steps'\?"):
            parse("", "training.num_stepz=3")

    def test_one_for_a_section_that_is_none_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"my\.toml: training must be a section, \[training\], found a value"):
            parse("training = 3", "training.num_steps=3")


class TestRefusals:
    @pytest.mark.parametrize(("text", "message"), [
        ("[trainin]\n", r"unknown section \[trainin\]; did you mean 'training'\?"),
        ("[zzz]\n", r"unknown section \[zzz\]; known are stft, model, augmentation, training"),
        ("model = 3\n", r"model must be a section, \[model\], found a value"),
        ("[[model]]\nchannels = 3\n", r"model must be a section"),
        ("num_steps = 3\n", r"unknown section \[num_steps\]"),
        ("[training]\nnum_step = 3\n", r"\[training\] has no key 'num_step'; did you mean 'num_steps'\?"),
        ("[training.deeper]\nx = 3\n", r"\[training\] has no key 'deeper'"),
        ("[training]\nnum_steps = 3.0\n", r"\[training\] num_steps must be a whole number, found 3\.0"),
        ("[training]\nnum_steps = true\n", r"\[training\] num_steps must be a whole number, found True"),
        ("[training]\nnum_steps = '3'\n", r"\[training\] num_steps must be a whole number, found '3'"),
        ("[training]\nlearning_rate = 'fast'\n", r"\[training\] learning_rate must be a number, found 'fast'"),
        ("[training]\nlearning_rate = true\n", r"\[training\] learning_rate must be a number, found True"),
        ("[training]\nlearning_rate = nan\n", r"\[training\] learning_rate must be above 0, found nan"),
        ("[training]\noptimiser = 'sgd'\n", r"\[training\] optimiser must be one of 'adam', 'adamw', found 'sgd'"),
        ("[training]\noptimiser = []\n", r"\[training\] optimiser must be one of 'adam', 'adamw', found \[\]"),
        ("[training]\nnum_steps = 0\n", r"\[training\] num_steps must be 1 or more, found 0"),
        ("[training]\nseed = 1979-05-27\n", r"\[training\] seed must be a whole number"),
        ("[training]\ncrop_stages = 3\n", r"\[training\] crop_stages must be a list, found 3"),
        ("[training]\ncrop_stages = [3]\n", r"\[training\] crop_stages must be a list of 2 numbers, found 3"),
        ("[training]\ncrop_stages = [[1, 2, 3]]\n", r"\[training\] crop_stages must be a list of 2 numbers, found"),
        ("[training]\ncrop_stages = [[1, 2.5]]\n", r"\[training\] crop_stages must be a whole number, found 2\.5"),
        ("[training]\ncrop_stages = [[1, 8], [0, 8]]\n", r"\[training\] crop_stages must be pairs of 1 or more"),
        ("[training]\nema_decay = 1.0\n", r"\[training\] ema_decay must be below 1, such as 0\.999, found 1\.0"),
        ("[training]\ndecay = 'cosine'\ndecay_power = 2.0\n", r"\[training\] decay_power is that of the polynomial"),
        ("[training]\ndecay = 'linear'\n", r"\[training\] decay must be one of 'polynomial', 'cosine', found 'linear'"),
        ("[training]\npatience = 3\nnum_validation_examples = 0\n", r"\[training\] patience counts validations"),
        ("[training]\npatience = -1\n", r"\[training\] patience must be 0 or more"),
        ("[training]\nkeep_checkpoints = 0\n", r"\[training\] keep_checkpoints must be 1 or more"),
        ("[training]\nfreeze = 'encoders.*'\n", r"\[training\] freeze must be a list"),
        ("[training]\ncrop_stages = [[1, -8]]\n", r"\[training\] crop_stages must be pairs of 1 or more"),
        ("[augmentation]\nlibrary_weights = 3\n", r"\[augmentation\] library_weights must be a table such as"),
        ("[augmentation]\nlibrary_weights = [1]\n", r"\[augmentation\] library_weights must be a table"),
        (
            "[augmentation]\nlibrary_weights = { 'vocal/a' = 'x' }\n",
            r"\[augmentation\] library_weights 'vocal/a' must be a number, found 'x'",
        ),
        (
            "[augmentation]\nlibrary_weights = { 'vocal/a' = -1 }\n",
            r"\[augmentation\] library_weights: 'vocal/a' must be 0 or more, found -1",
        ),
        ("[model]\nbias = 1\n", r"\[model\] bias must be true or false, found 1"),
        ("[model]\narchitecture = 1\n", r"\[model\] architecture must be a text in quotes, found 1"),
        ("[model]\nchannels = 0\n", r"\[model\] channels must be at least 1, found 0"),
        ("[model]\narchitecture = 'u-net'\n", r"\[model\] architecture 'u-net' is not known; choose one of .*unet"),
        (
            "[model]\nlook_ahead_frames = 4\n",
            r"\[model\] look_ahead_frames means nothing to architecture 'frame_transformer', whose settings are bias, ",
        ),
        (
            "[model]\nnum_bands = 8\nnorm = 'pre'\narchitecture = 'unet'\n",
            r"\[model\] norm means nothing to architecture 'unet', whose settings are channels, .*; leave it out",
        ),
        ("[model]\nnum_bands = 3\n", r"\[model\] n_fft must be a multiple of 32 x num_bands = 96, .* found 2048"),
        ("[model]\narchitecture = 'unet'\nn_fft = 2000\n", r"\[model\] n_fft must be a multiple of 128 .* found 2000"),
        ("[augmentation]\nvocals_pan_db = 3\n", r"\[augmentation\] vocals_pan_db must be a list of 2 numbers, found 3"),
        ("[augmentation]\nvocals_pan_db = [3]\n", r"\[augmentation\] vocals_pan_db must be a list of 2 numbers"),
        ("[augmentation]\nvocals_pan_db = [0, 'x']\n", r"\[augmentation\] vocals_pan_db must be a number, found 'x'"),
        ("[augmentation]\nvocals_pan_db = [3, 0]\n", r"\[augmentation\] vocals_pan_db must be \[low, high\]"),
        ("[augmentation]\nswap_probability = 2\n", r"\[augmentation\] swap_probability must be between 0 and 1"),
        ("[stft]\nn_fft = 1023\n", r"\[stft\] n_fft must be a positive even number of samples, found 1023"),
        ("[stft]\nn_fft = 4096\n[model]\nn_fft = 2048\n", r"\[model\] n_fft is 2048, \[stft\] n_fft is 4096"),
        ("[training\n", r"expected TOML, found an error: .*line 1"),
        ("[training]\nseed = 1\nseed = 2\n", r"expected TOML, found an error"),
    ])  # fmt: skip
    def test_what_is_wrong_is_named_with_file_and_key(self, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=rf"^my\.toml: {message}"):
            parse(text)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no\.toml: expected a recipe \(a TOML file\), found nothing"):
            load_recipe(tmp_path / "no.toml")

    def test_a_folder_is_no_recipe(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"expected a recipe \(a TOML file\), found a folder"):
            load_recipe(tmp_path)

    def test_other_bytes_are_no_recipe(self, tmp_path: Path) -> None:
        (tmp_path / "x.toml").write_bytes(b"\xff\xfe[\x00")
        with pytest.raises(RecipeError, match=r"x\.toml: expected a TOML file in UTF-8, found other bytes"):
            load_recipe(tmp_path / "x.toml")


def test_every_setting_has_a_type_a_recipe_can_give() -> None:
    """A new field with another kind of type would be refused whatever the recipe says."""
    for owner in (StftSpec, ModelConfig, AugmentationConfig, TrainingConfig):
        for field in fields(owner):
            default = field.default_factory() if callable(field.default_factory) else field.default
            assert isinstance(default, int | float | str | tuple | dict), f"{owner.__name__}.{field.name}"
