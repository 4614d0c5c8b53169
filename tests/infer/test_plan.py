"""What a plan says of memory grows with what is asked, and what it advises fits."""

import re

import pytest

from conf import load
from infer.config import InferConfig
from infer.offload import Offload
from infer.plan import describe_plan


def plan(*overrides: str) -> str:
    return describe_plan(load(InferConfig, "infer", ["plan=true", *overrides]))


def peaks(*overrides: str) -> dict[str, float]:
    return {name: float(gb) for name, gb in re.findall(r"offload=(\w+) +([\d.]+) GB", plan(*overrides))
            if name in Offload.__members__}


def test_memory_grows_with_what_is_asked() -> None:
    short, long, refined = (peaks(*more) for more in (["frames=81"], ["frames=961"],
                                                      ["frames=961", "refiner=ltx2"]))
    for offload in Offload:
        assert short[offload.value] < long[offload.value] <= refined[offload.value]
    for found in (short, long, refined):
        assert found["none"] > found["text"] > found["model"] >= found["sequential"]


def test_a_stream_needs_the_same_however_long_it_is() -> None:
    short, long = (peaks("sampler=distilled", f"frames={frames}") for frames in (241, 2401))
    assert short == long


def test_fewer_bits_need_less_in_the_parts_they_are_chosen_for() -> None:
    def gb(part: str, *overrides: str) -> float:
        return float(re.findall(rf"  {part} +([\d.]+) GB", plan("refiner=ltx2", *overrides))[0])

    assert gb("network", "precision=int8") < 0.6 * gb("network")
    assert gb("refiner", "precision=nvfp4") < 0.35 * gb("refiner")
    assert gb("network", "precision.text=int8") == gb("network")
    assert gb("text encoder", "precision.text=int8") < 0.7 * gb("text encoder")


def test_weights_of_the_released_network_are_those_of_its_parameters() -> None:
    assert re.search(r"network +5\.3 GB", plan("frames=81"))  # 2.66 billion of two bytes
    assert re.search(r"network +10\.6 GB", plan("frames=81", "dtype=float32"))


@pytest.mark.parametrize("asked", [[], ["sampler=distilled", "refiner=ltx2"], ["frames=961", "refiner=ltx2"]])
def test_what_is_advised_for_a_card_fits_it(asked: list[str]) -> None:
    advice = re.findall(r"a card of (\d+) GB: fits(?: with ([\w= .]+))?, ([\d.]+) GB", plan(*asked))
    assert advice
    for card, settings, gb in advice:
        changes = dict(setting.split("=") for setting in settings.split())
        precision = [f"precision={changes['precision']}"] if "precision" in changes else []
        found = peaks(*asked, *precision)[changes.get("offload", "none")]
        assert found == pytest.approx(float(gb), abs=0.11) and found < float(card)


def test_what_fits_no_card_is_said_with_what_to_try() -> None:
    assert "too small by" in plan("size=[2176,3840]", "frames=1921")
    assert "try sampler=distilled, a smaller size" in plan("size=[2176,3840]", "frames=1921")
