"""The golden fixtures of the released model, through the command that checks any folder of them."""

from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("found", [torch.tensor([1.0, float("nan")]), torch.tensor([1.0]),
                                   torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 2.1])])
def test_a_comparison_fails_on_nan_another_shape_and_another_value(found: torch.Tensor):
    assert not Comparison("out.x", found, torch.tensor([1.0, 2.0]), 1e-3).passed
