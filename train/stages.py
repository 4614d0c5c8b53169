"""From settings to a stage: its objective, its networks, and what is written beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataset.latents import LatentSet
from model.config import DiTConfig
from model.dit import SanaWM
from model.weights import save_tensors
from train.config import TrainConfig
from train.data import RELEASED_SPACE, resolve
from train.distillation import prepare_ode, prepare_self_forcing
from train.launch import choose_device
from train.lora import add_lora, save_lora
from train.objectives import FlowMatching, Member, Networks, Objective
from train.place import compute_type
from train.plan import Planned
from train.refiner_stage import about_refiner, plan_refiner, prepare_refiner, save_refiner
from train.start import (
    about_space,
    check_stage,
    describe_idle,
    empty,
    freeze_unused,
    plan_config,
    start_network,
)

OBJECTIVES = ("flow", "ode", "self_forcing", "refiner")


@dataclass(frozen=True)
class Stage:
    """What the trainer works on.

    about: what checkpoints and the next stage know of this one.    notes: where its networks came from.
    save: tensors of the trained network to a folder that the next stage and inference read.
    """

    objective: Objective
    networks: Networks
    about: dict[str, Any]
    notes: list[str]
    save: Callable[[Mapping[str, Tensor], Path], None]


def build_stage(config: TrainConfig, space: LatentSet, resumed: Mapping[str, Any] | None = None) -> Stage:
    """Networks are on the CPU, whole. Raises ValueError that names the setting.

    resumed: `about` of the checkpoint that will fill the networks; they are not read from config.start then.
    """
    check_stage(config.stage, OBJECTIVES)
    if config.stage.objective == "refiner":
        refiner, member, notes = prepare_refiner(config, space)
        return Stage(refiner, {"network": member}, about_refiner(config, about_space(space)), notes,
                     lambda tensors, folder: save_refiner(tensors, folder, config.refiner.distilled))
    if resumed is None or config.lora.rank:
        start = start_network(config, space)
        network, notes = start.network, start.notes
    else:
        network, notes = empty(DiTConfig.from_json(resumed["model"], "checkpoint")), []
    idle = prepare_training(config, network)
    objective, others = prepare_objective(config, space, network)

    def save(tensors: Mapping[str, Tensor], folder: Path) -> None:
        if config.lora.rank:
            save_lora(start_network(config, space).network, tensors, folder)
        else:
            save_tensors(tensors, network.config, folder)

    member = Member(network, keeps_frozen=not config.lora.rank)
    return Stage(
        objective=objective, networks={"network": member, **others},
        about=about_stage(config, space, network), notes=[*notes, *describe_idle(network, idle)], save=save)


def prepare_training(config: TrainConfig, network: SanaWM) -> list[str]:
    """Decide what is trained; names of what would be, if the stage used it."""
    network.requires_grad_()
    if config.lora.rank:
        frozen = compute_type(config.parallel, choose_device(config.parallel))
        add_lora(network, config.lora.rank, config.seed, frozen)
    return freeze_unused(network, config.flow.camera)


def prepare_objective(
    config: TrainConfig, space: LatentSet, network: SanaWM,
) -> tuple[Objective, dict[str, Member]]:
    """What the network learns, and the networks it learns that from."""
    if config.stage.objective == "ode":
        return prepare_ode(config, space, network)
    if config.stage.objective == "self_forcing":
        return prepare_self_forcing(config, space, network)
    return FlowMatching(config.flow), {}


def plan_stage(config: TrainConfig) -> list[Planned]:
    """The stage's networks by names and shapes alone, with the data set's sizes where one is named.

    Those beside the trained one are taken to be of its size.
    """
    check_stage(config.stage, OBJECTIVES)
    space = resolve(config.data)[1] if config.data.path or config.data.sources else RELEASED_SPACE
    if config.stage.objective == "refiner":
        refiner, sizes = plan_refiner(config, space.caption_tokens)
        return [Planned("network", Member(refiner, keeps_frozen=False), sizes)]
    model = plan_config(config, space)

    def network() -> SanaWM:
        with torch.device("meta"):
            return SanaWM(model)

    own = network()
    prepare_training(config, own)
    planned = [Planned("network", Member(own), model)]
    if config.stage.objective == "self_forcing":
        critic = network()
        freeze_unused(critic, camera=True)
        planned.append(Planned("critic", Member(critic), model))
    if config.stage.objective != "flow":
        planned.append(Planned("teacher", Member(network().requires_grad_(False)), model))
    return planned


def about_stage(config: TrainConfig, space: LatentSet, network: SanaWM) -> dict[str, Any]:
    """Of the network that is trained."""
    return {"stage": config.stage.name, "seed": config.seed, "space": about_space(space),
            "model": network.config.to_json()}
