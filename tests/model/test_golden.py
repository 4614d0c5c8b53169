"""The golden fixtures of the released model, through the command that checks any folder of them."""

from pathlib import Path
from shutil import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.golden.__main__ import main
from tests.golden.fixture import Comparison


@pytest.fixture(scope="module")
def golden() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "reference" / "golden"
    if not folder.is_dir():
        pytest.skip("the golden fixtures are not here")
    return folder


@pytest.mark.shared
def test_every_golden_fixture_passes_at_its_tolerance(golden: Path, capsys: pytest.CaptureFixture[str]):
    code = main([str(golden)])
    assert code == 0, capsys.readouterr().out


@pytest.mark.shared
def test_files_may_carry_a_suffix_which_also_finds_their_weights(golden: Path, tmp_path: Path):
    for suffix in ("_seed7", "-wide"):
        copy(golden / "dit_tiny_weights.safetensors", tmp_path / f"dit_tiny_weights{suffix}.safetensors")
        copy(golden / "sampler_rollouts.safetensors", tmp_path / f"sampler_rollouts{suffix}.safetensors")
    assert main([str(tmp_path)]) == 0


@pytest.mark.shared
@pytest.mark.parametrize("fault, message", [
    ("altered", "of 1e-06  out.t2v.loss"),
    ("reshaped", "shape (2,), expected (1,)"),
    ("another output", "not covered: nothing compares out.surprise"),
    ("another name", "not covered: no check"),
    ("input lost", "KeyError"),
])
def test_a_file_that_fails_or_is_not_covered_fails_the_folder(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, message: str,
):
    with safe_open(golden / "training_objective.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in list(file.keys())}
    if fault == "altered":
        tensors["out.t2v.loss"][1] += 1e-5
    elif fault == "reshaped":
        tensors["out.t2v.loss"] = tensors["out.t2v.loss"][:1].clone()
    elif fault == "another output":
        tensors["out.surprise"] = torch.zeros(2)
    elif fault == "input lost":
        del tensors["in.noise"]
    name = "unheard_of" if fault == "another name" else "training_objective_b"
    save_file(tensors, tmp_path / f"{name}.safetensors", metadata)
    assert main([str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_a_folder_without_fixtures_fails(tmp_path: Path):
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize("found", [torch.tensor([1.0, float("nan")]), torch.tensor([1.0]),
                                   torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 2.1])])
def test_a_comparison_fails_on_nan_another_shape_and_another_value(found: torch.Tensor):
    assert not Comparison("out.x", found, torch.tensor([1.0, 2.0]), 1e-3).passed
