"""The ancestor's weights become our checkpoints and give the ancestor's masks (reference vectors: data/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, InputError
from vrtool.model import ModelConfig
from vrtool.model.ancestor import import_ancestor, our_name
from vrtool.model.checkpoint import checkpoint_model, load_model, save_checkpoint

DATA = Path(__file__).parent / "data"

CONFIG_A = ModelConfig(
    n_fft=128,
    channels=4,
    num_bands=4,
    feedforward_dim=64,
    num_encoders=1,
    num_decoders=1,
    crop_frames=64,
    bias=False,
    position="ancestor",
    compression=1.0,
)
CONFIG_B = ModelConfig(
    n_fft=128,
    channels=2,
    num_bands=2,
    feedforward_dim=48,
    num_encoders=2,
    num_decoders=2,
    crop_frames=48,
    bias=True,
    position="ancestor",
    compression=1.0,
)


def reference(name: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    tensors = load_file(DATA / f"ancestor_{name}.safetensors")
    state = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return state, tensors["magnitude"], tensors["mask"]


def saved(state: object, folder: Path) -> Path:
    path = folder / "ancestor.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(("name", "config"), [("a", CONFIG_A), ("b", CONFIG_B)])
def test_imported_weights_give_the_reference_mask(name: str, config: ModelConfig, tmp_path: Path) -> None:
    state, magnitude, mask = reference(name)
    checkpoint = import_ancestor(saved(state, tmp_path))
    assert checkpoint.model == config
    assert checkpoint.stft == StftSpec(sample_rate=44100, n_fft=128, hop_length=64)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint_model(checkpoint)(magnitude), mask, rtol=0, atol=1e-5)


def test_older_names_give_the_reference_mask(tmp_path: Path) -> None:
    state, magnitude, mask = reference("a")
    older = {key.replace("skip_attn", "enc_attn"): value for key, value in state.items()}
    assert older.keys() != state.keys()
    network = checkpoint_model(import_ancestor(saved(older, tmp_path)))
    with torch.inference_mode():
        torch.testing.assert_close(network(magnitude), mask, rtol=0, atol=1e-5)


def test_names_of_data_parallel_training_are_known(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    parallel = {f"module.{key}": value for key, value in state.items()}
    assert import_ancestor(saved(parallel, tmp_path)).model == CONFIG_A


def test_an_imported_checkpoint_survives_saving(tmp_path: Path) -> None:
    state, magnitude, mask = reference("a")
    save_checkpoint(tmp_path / "a.safetensors", import_ancestor(saved(state, tmp_path)))
    with torch.inference_mode():
        torch.testing.assert_close(load_model(tmp_path / "a.safetensors")(magnitude), mask, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("enc1.body.0.weight", "encoders.0.convolutions.0.convolution.weight"),
        ("enc5.conv2.body.1.running_var", "encoders.4.convolutions.1.norm.running_var"),
        ("dec4.conv.body.1.bias", "ascents.3.convolution.norm.bias"),
        ("enc3_transformer.1.attn.er", "encoders.2.blocks.1.self_attention.layer.position.table"),
        (
            "enc2_transformer.0.attn.q_conv.weight",
            "encoders.1.blocks.0.self_attention.layer.query.depthwise.weight",
        ),
        ("enc1_transformer.0.conv1M.1.bias", "encoders.0.blocks.0.branches.layer.merge.pointwise.bias"),
        ("enc1_transformer.0.norm3.bias", "encoders.0.blocks.0.branches.layer.norm.bias"),
        (
            "dec1_transformer.0.enc_attn1.o_proj.bias",
            "decoders.1.blocks.0.parallel_attention.layer.skip_attention.output.bias",
        ),
        (
            "out_transformer.0.skip_attn2.v_proj.weight",
            "decoders.0.blocks.0.skip_attention.layer.value.linear.weight",
        ),
        ("out.bias", "output.bias"),
        ("enc6_transformer.0.attn.er", None),
        ("dec1_transformer.0.attn.er", None),
        ("body.0.weight", None),
        ("nonsense", None),
    ],
)
def test_names_are_translated(theirs: str, ours: str | None) -> None:
    assert our_name(theirs) == ours


def test_no_two_names_become_one() -> None:
    state, _, _ = reference("b")
    assert len({our_name(name) for name in state}) == len(state)


def test_a_network_without_blocks_needs_to_be_told_n_fft(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    # Level by level, the input widths shrink by the one channel that each block added, and so does the output's.
    bare = {key: value for key, value in state.items() if "transformer" not in key}
    for level in range(2, 6):
        name = f"enc{level}.conv1.body.0.weight"
        bare[name] = bare[name][:, :-1]
    for level in range(1, 5):
        name = f"dec{level}.conv.body.0.weight"
        bare[name] = bare[name][:, :-2]
    bare["out.weight"] = bare["out.weight"][:, :-1]
    path = saved({key: value.contiguous() for key, value in bare.items()}, tmp_path)
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*give n_fft"):
        import_ancestor(path)
    network = checkpoint_model(import_ancestor(path, n_fft=128))
    with torch.inference_mode():
        assert network(torch.rand(1, 2, 65, 5)).shape == (1, 2, 65, 5)


def test_sizes_that_contradict_the_tensors_are_refused(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    path = saved(state, tmp_path)
    with pytest.raises(CheckpointError, match=r"ancestor\.pth was made with n_fft 128, found 2048"):
        import_ancestor(path, n_fft=2048)
    with pytest.raises(CheckpointError, match=r"ancestor\.pth was made with num_bands 4, found 8"):
        import_ancestor(path, num_bands=8)
    assert import_ancestor(path, n_fft=128, num_bands=4).model == CONFIG_A


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist"):
        import_ancestor(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match=r"ancestor\.pth holds something else than named tensors"):
        import_ancestor(saved([1, 2, 3], tmp_path))
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*unknown or doubled tensors fc\.weight"):
        import_ancestor(saved({"fc.weight": torch.zeros(3)}, tmp_path))
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*enc1\.body\.0\.weight is missing"):
        import_ancestor(saved({"out.bias": torch.zeros(3)}, tmp_path))
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointError, match=r"torn\.pth is damaged"):
        import_ancestor(tmp_path / "torn.pth")


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    lost = {key: value for key, value in state.items() if key != "out.bias"}
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*output\.bias is missing"):
        import_ancestor(saved(lost, tmp_path))
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*output\.bias has shape \(3,\) instead of \(2,\)"):
        import_ancestor(saved(state | {"out.bias": torch.zeros(3)}, tmp_path))


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("enc1.body.0.weight", (4, 2), r"enc1\.body\.0\.weight is missing"),
        ("dec1.conv.body.0.weight", (), r"convolution\.weight has shape \(\) instead of"),
        ("enc1_transformer.0.conv1M.1.weight", (3,), r"pointwise\.weight has shape \(3,\) instead of"),
        ("enc1_transformer.0.attn.er", (64,), r"tells no sizes: encoders\.0\.blocks\.0 has matrices of shapes"),
        ("enc1_transformer.0.attn.er", (0, 64), r"tells no sizes"),
        ("enc1_transformer.0.attn.er", (999, 64), r"sizes that make no network: num_bands must be at least 1, found 0"),
        ("enc1_transformer.0.conv2.weight", (64,), r"tells no sizes"),
    ],
)
def test_tensors_of_any_shape_end_in_a_sentence(
    name: str, shape: tuple[int, ...], sentence: str, tmp_path: Path
) -> None:
    state, _, _ = reference("a")
    assert name in state
    with pytest.raises(CheckpointError, match=rf"ancestor\.pth .*{sentence}"):
        import_ancestor(saved(state | {name: torch.zeros(shape)}, tmp_path))


def test_a_tensor_under_both_generations_of_names_is_refused(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    name = "out_transformer.0.skip_attn1.q_proj.weight"
    doubled = state | {name.replace("skip_", "enc_"): state[name]}
    with pytest.raises(CheckpointError, match=r"ancestor\.pth.*doubled tensors out_transformer\.0\.enc_attn1\.q_proj"):
        import_ancestor(saved(doubled, tmp_path))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state, _, _ = reference("a")
    with pytest.raises(CheckpointError, match=r"ancestor\.pth .*output\.bias holds values that are not finite"):
        import_ancestor(saved(state | {"out.bias": torch.tensor([0.0, torch.nan])}, tmp_path))


def test_sample_rate_and_hop_are_those_told(tmp_path: Path) -> None:
    path = saved(reference("a")[0], tmp_path)
    assert import_ancestor(path, sample_rate=16000, hop_length=32).stft == StftSpec(
        sample_rate=16000, n_fft=128, hop_length=32
    )
    with pytest.raises(InputError, match=r"hop_length must be from 1 to half of n_fft"):
        import_ancestor(path, hop_length=128)


class Trap:
    """Unpickled in the ordinary way, this calls print."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the trap was sprung",)


def test_nothing_in_a_pickle_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"ancestor\.pth is damaged or is not a plain state dict"):
        import_ancestor(saved({"out.bias": Trap()}, tmp_path))
    assert capsys.readouterr().out == ""
