"""What `python -m infer` does: check everything, then plan, draw the path, or make one video or many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infer.config import InferConfig

if TYPE_CHECKING:
    from infer.pipeline import WorldModel

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def run(config: InferConfig) -> int:
    """The exit code: 2 for input that cannot be used, with nothing written."""
    try:
        if config.repeat is not None:
            from infer.record import read_settings
            config = read_settings(config)
        config.check()
        if config.plan:
            from infer.plan import describe_plan
            print(describe_plan(config))
            return 0
        if config.preview:
            return _preview(config)
        return _generate(config) if config.manifest is None else _batch(config)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        raise  # whoever reads the output left; `conf.entry` knows what to do
    except (OSError, MemoryError) as error:
        print(f"the video broke off: {error or 'no memory left'}", file=sys.stderr)
        return FAILED
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        print(f"the GPU has no memory left: {str(error).splitlines()[0]}\n  plan=true says what would help",
              file=sys.stderr)
        return FAILED


def load_world(config: InferConfig) -> WorldModel:
    """The weights that `config` names. Raises ValueError or FileNotFoundError for those that are not there
    or do not fit together."""
    import torch

    from infer.pipeline import WorldModel

    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    return WorldModel.from_pretrained(
        config.model, codec=config.codec, text=config.text, sampler=config.sampler, refiner=config.refiner,
        refine=config.refine, device=config.device, dtype=dtype, offload=config.offload,
        precision=config.precision, compile=config.compile, overlap=config.overlap)


def _preview(config: InferConfig) -> int:
    from infer.camera import find_path
    from infer.preview import draw_preview
    from infer.video import write_whole

    path = find_path(config.camera or config.action or "", config.path, config.frames, config.sampler.streams)
    target = Path(config.out).expanduser() / "preview.png"
    write_whole(target, draw_preview(path))
    print(f"{target}: {len(path)} frames of {path.source}")
    return 0


def _generate(config: InferConfig) -> int:
    from infer.folder import VIDEO, make_folder, read_inputs
    from infer.progress import Bar
    from infer.sampler import evaluations

    target = Path(config.out).expanduser() / VIDEO
    if target.exists() and not config.overwrite:
        raise FileExistsError(f"{target} is there; name another folder by out=, or say overwrite=true")
    inputs = read_inputs(config)
    frames = len(inputs.path)
    if config.frames is not None and config.frames != frames:
        print(f"frames={config.frames}: {frames} are made, whole latent frames of what the path has")
    bar = Bar(evaluations(config.sampler, (frames - 1) // 8 + 1))
    print("\n" + make_folder(load_world(config), config, inputs, bar))
    return 0


def _batch(config: InferConfig) -> int:
    from infer.batch import run_batch
    from infer.manifest import read_manifest

    return run_batch(config, read_manifest(config), load_world)
