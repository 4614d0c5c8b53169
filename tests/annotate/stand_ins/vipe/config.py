from types import SimpleNamespace


def parse_typed_config(config_name="default", hydra_args=()):
    assert config_name == "default"
    return SimpleNamespace(pipeline=dict(one.split("=", 1) for one in hydra_args))
