"""Every command of the repository, as its user first meets it."""

import importlib
import re
from pathlib import Path

import pytest

from conf import defaults, flatten, groups
from conf.help import field_comments, format_help

COMMANDS = {
    "annotate": "annotate.config:AnnotateConfig",
    "evaluate": "pipelines.evaluation.config:EvaluateConfig",
    "export": "pipelines.export_config:ExportConfig",
    "follow": "pipelines.follow_config:FollowConfig",
    "generate": "pipelines.generate_config:GenerateConfig",
    "import_set": "pipelines.import_set_config:ImportSetConfig",
    "infer": "infer.config:InferConfig",
    "latents": "pipelines.latents_config:LatentsConfig",
    "pairs": "train.pairs:PairsConfig",
    "serve": "infer.serve.config:ServeConfig",
    "qa": "pipelines.qa.config:QaConfig",
    "train": "train.config:TrainConfig",
    "validate": "pipelines.validate_config:ValidateConfig",
}


def schema_of(name: str) -> type:
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def test_all_commands_are_listed_here():
    root = Path(__file__).parents[2] / "conf"
    assert sorted(path.stem for path in root.glob("*.yaml")) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_every_setting_its_meaning_and_the_options_of_its_groups(name):
    schema = schema_of(name)
    text = format_help(schema, "About.", ["run"], groups(), defaults(schema, name))
    own = {key.split(".")[0] for key, _ in flatten(schema)}
    lines = text.splitlines()
    for key, _ in flatten(schema):
        if not re.search(rf"^ +{re.escape(key)} ", text, re.MULTILINE):
            assert any(line.strip().startswith(f".{key.rsplit('.', 1)[1]}") for line in lines), key
    for group, options in groups().items():
        if group in own:
            assert " | ".join(options) in re.sub(r"\s+", " ", text)
    assert text.count("a ready set of the values below") == len(own & set(groups()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_of_a_command_says_what_it_means(name):
    schema = schema_of(name)
    assert [field for field, meaning in field_comments(schema).items() if not meaning] == []
