"""The stages of learned scores that the settings ask for."""

from __future__ import annotations

from annotate.learned import LearnedConfig
from annotate.scores.aesthetic import AestheticStage
from annotate.scores.config import FlowNetwork, ScoresConfig
from annotate.scores.dover import DoverStage
from annotate.scores.flow import FlowStage
from annotate.scores.stage import ScoreStage
from annotate.scores.text import TextStage


def score_stages(config: ScoresConfig, learned: LearnedConfig) -> list[ScoreStage]:
    """Those on the CPU first: neighbours with equal resources share a worker and its decoded clip."""
    config.check()
    asked = ((config.text, TextStage), (config.flow != FlowNetwork.none, FlowStage),
             (config.dover, DoverStage), (config.aesthetic, AestheticStage))
    return [stage(config, learned) for is_asked, stage in asked if is_asked]
