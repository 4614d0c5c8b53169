"""Checkpoints in every layout, with tiny networks; the released names and shapes without their memory."""

import csv
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import DiTConfig
from model.dit import SanaWM
from model.weights import load, open_checkpoint, save, save_tensors

TABLE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "state_dict.csv"
TINY = DiTConfig.tiny()


def random_network(config: DiTConfig = TINY, seed: int = 0) -> SanaWM:
    """All tensors differ from zero, those that nothing uses too."""
    generator, network = torch.Generator().manual_seed(seed), SanaWM(config)
    network.load_state_dict({name: torch.randn(tensor.shape, generator=generator)
                             for name, tensor in network.state_dict().items()})
    return network


def assert_same(found: SanaWM, expected: SanaWM) -> None:
    assert found.config == expected.config
    theirs = found.state_dict()
    assert theirs.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert theirs[name].dtype == tensor.dtype and torch.equal(theirs[name], tensor), name


def released_shapes() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind and shape of every tensor of the released files."""
    if not TABLE.is_file():
        pytest.skip("the table of released tensors is not here")
    with TABLE.open() as file:
        return {row["name"]: (row["kind"], tuple(map(int, row["shape"].split("x"))))
                for row in csv.DictReader(file) if row["kind"]}


def save_streaming(network: SanaWM, path: Path, **others: Any) -> Path:
    generator = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"generator": generator, "critic": {"model.x": torch.zeros(2)}, "step": 3} | others, path)
    return path


@pytest.mark.shared
def test_the_released_network_has_the_names_and_shapes_of_the_released_files():
    expected = released_shapes()
    with torch.device("meta"):
        network = SanaWM(DiTConfig.sana_wm_2b6())
    kinds = dict.fromkeys(dict(network.named_parameters()), "parameter") | dict.fromkeys(
        dict(network.named_buffers()), "buffer")
    found = {name: (kinds[name], tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    assert found == expected and len(found) == 871
    assert sum(x.numel() for x in network.parameters()) == 2_661_800_448
    shapes = {name: shape for name, (_, shape) in expected.items()}
    assert DiTConfig.from_shapes(shapes) == DiTConfig.sana_wm_2b6()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shard_bytes", [5 << 30, 20_000])
def test_a_saved_network_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shard_bytes: int):
    network = random_network(replace(TINY, key_scale="dim", camera_clamp="softmax")).to(dtype)
    network.save_pretrained(tmp_path / "mine", shard_bytes=shard_bytes)
    files = sorted(path.name for path in (tmp_path / "mine").iterdir())
    if shard_bytes == 20_000:
        shards = [name for name in files if name.startswith("model-")]
        assert len(shards) > 2 and files == ["config.json", *shards, "model.safetensors.index.json"]
        assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    else:
        assert files == ["config.json", "model.safetensors"]
    back = SanaWM.from_pretrained(tmp_path / "mine")
    assert_same(back, network)
    assert all(parameter.requires_grad for parameter in back.parameters()) and not back.training
    for kept in ("raymap_embedder.proj.weight", "y_embedder.y_embedding", "blocks.1.attn.recall_gate"):
        assert kept in back.state_dict()


def test_a_released_file_is_read_as_it_is_named_with_its_position_table_dropped(tmp_path: Path):
    network = random_network()
    (tmp_path / "repository" / "dit").mkdir(parents=True)
    file = tmp_path / "repository" / "dit" / "released.safetensors"
    save_file(network.state_dict() | {"pos_embed": torch.zeros(1, 5, TINY.width)}, file)
    for source in (tmp_path / "repository", file.parent, str(file)):
        assert_same(load(source, config=TINY), network)


@pytest.mark.parametrize("archive", [True, False])
def test_the_streaming_pickle_is_read_from_under_generator(tmp_path: Path, archive: bool):
    network = random_network()
    path = tmp_path / "sana_dit" / "model.pt"
    path.parent.mkdir()
    save_streaming(network, path)
    if not archive:
        torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    for source in (tmp_path, path):
        assert_same(load(source, config=TINY), network)


def test_weights_are_cast_when_asked_and_else_left_as_stored(tmp_path: Path):
    network = random_network()
    save(network, tmp_path / "mine")
    narrow = load(tmp_path / "mine", dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(narrow[name], tensor.bfloat16()) for name, tensor in network.state_dict().items())
    save_tensors(narrow, TINY, tmp_path / "narrow")
    assert all(tensor.dtype == torch.bfloat16 for tensor in load(tmp_path / "narrow").state_dict().values())
    wide = load(tmp_path / "narrow", dtype=torch.float32).state_dict()
    assert all(torch.equal(wide[name], tensor.float()) for name, tensor in narrow.items())


def test_what_was_loaded_does_not_change_with_the_file(tmp_path: Path):
    network = random_network()
    save(network, tmp_path / "mine")
    path = save_streaming(network, tmp_path / "model.pt")
    loaded = [load(tmp_path / "mine"), load(path, config=TINY)]
    for file in (tmp_path / "mine" / "model.safetensors", path):
        file.write_bytes(bytes(file.stat().st_size))
    for back in loaded:
        assert_same(back, network)


def test_missing_unexpected_and_misshapen_tensors_are_named_together(tmp_path: Path):
    tensors = random_network().state_dict()
    del tensors["blocks.0.attn.A_log"], tensors["final_layer.linear.bias"]
    tensors["blocks.7.surprise"] = torch.zeros(1)
    tensors["blocks.1.mlp.t_conv.weight"] = torch.zeros(24, 24, 3)
    save_tensors(tensors, TINY, tmp_path / "wrong")
    with pytest.raises(ValueError) as error:
        load(tmp_path / "wrong")
    message = str(error.value)
    assert "2 missing: blocks.0.attn.A_log, final_layer.linear.bias\n" in message
    assert "1 unexpected: blocks.7.surprise\n" in message
    assert "1 misshapen: blocks.1.mlp.t_conv.weight (24, 24, 3) for (24, 24, 3, 1)" in message
    assert str(tmp_path / "wrong" / "model.safetensors") in message


def test_a_block_that_is_lost_is_missing_and_no_smaller_network(tmp_path: Path):
    save(random_network(), tmp_path / "mine")
    tensors = {name: tensor for name, tensor in load(tmp_path / "mine").state_dict().items()
               if not name.startswith("blocks.1.")}
    save_file(tensors, tmp_path / "mine" / "model.safetensors")
    with pytest.raises(ValueError, match=r"41 missing: blocks\.1\.attn\.A_log, "):
        load(tmp_path / "mine")


@pytest.mark.shared
def test_without_a_configuration_the_released_sizes_are_meant(tmp_path: Path):
    """A file of the released width, of a few of its tensors."""
    shapes = {name: shape for name, (_, shape) in released_shapes().items()}
    few = {name: torch.zeros(shapes[name]) for name in ("x_embedder.proj.weight", "blocks.0.attn.A_log")}
    save_file(few, tmp_path / "released.safetensors")
    with pytest.raises(ValueError, match=r"not those of the released network\.\n  869 missing: "):
        load(tmp_path / "released.safetensors")


def test_without_a_configuration_other_sizes_are_told_and_not_guessed(tmp_path: Path):
    save(random_network(), tmp_path / "mine")
    (tmp_path / "mine" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config\.json") as error:
        load(tmp_path / "mine")
    assert repr(TINY) in str(error.value)


def test_configurations_that_are_not_of_this_network_are_refused(tmp_path: Path):
    folder = tmp_path / "mine"
    save(random_network(), folder)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"dropout": 0.1}))
    with pytest.raises(ValueError, match=r"config\.json: unknown keys \['dropout'\]"):
        load(folder)
    (folder / "config.json").write_text('{"_class_name": "SanaTransformer2DModel"}')
    with pytest.raises(ValueError, match="of a SanaTransformer2DModel as diffusers saves it"):
        load(folder)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code of the file was run",))


def test_no_code_of_a_pickle_is_run(tmp_path: Path):
    path = save_streaming(random_network(), tmp_path / "model.pt", trap=Trap())
    with pytest.raises(ValueError, match="not a pickle of tensors alone"):
        load(path, config=TINY)


@pytest.mark.parametrize("content, message", [
    ({"weights": {}}, "holds weights; expected weights under 'generator' or 'state_dict'"),
    ({"generator": {"x_embedder.proj.bias": torch.zeros(24)}}, "holds x_embedder.proj.bias; expected"),
    ({"generator": {"model.x": 3}}, "holds model.x; expected tensors"),
    ([1], "holds list"),
])
def test_other_pickles_are_refused(tmp_path: Path, content: Any, message: str):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load(tmp_path, config=TINY)


def test_broken_and_absent_files_are_named(tmp_path: Path):
    folder = tmp_path / "mine"
    save(random_network(), folder, shard_bytes=20_000)
    shards = sorted(folder.glob("model-*"))
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{shards[1].name}: not a complete safetensors file"):
        load(folder)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=f"names {shards[1].name}, which is not beside it"):
        load(folder)
    shutil.copy(shards[0], shards[1])
    with pytest.raises(ValueError, match="as does another file"):
        load(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match="expected one, or an index that joins them"):
        load(folder)
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"generator": {}}, 2)[:7])
    with pytest.raises(ValueError, match="not a pickle of tensors alone"):
        load(tmp_path / "model.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no safetensors and no \.pt"):
        load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="and it is no hub repository"):
        load(tmp_path / "absent")


def test_saving_replaces_an_earlier_network_as_a_whole_and_nothing_else(tmp_path: Path):
    folder, second = tmp_path / "runs" / "mine", random_network(seed=1)
    save(random_network(), folder, shard_bytes=20_000)
    save(second, folder)
    assert_same(load(folder), second)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which would be lost"):
        save(second, folder)
    assert (folder / "notes.txt").is_file()


def test_a_failed_save_leaves_what_was_there(tmp_path: Path):
    network = random_network()
    save(network, tmp_path / "mine")
    meta: dict[str, Tensor] = {"x": torch.zeros(2), "y": torch.empty(2, device="meta")}
    with pytest.raises(Exception):  # noqa: B017  whatever the writer raises
        save_tensors(meta, TINY, tmp_path / "mine", shard_bytes=8)
    assert_same(load(tmp_path / "mine"), network)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_tensors_alone_are_read_without_a_network(tmp_path: Path):
    network = random_network()
    torch.save({"state_dict": network.state_dict() | {"pos_embed": torch.zeros(3)}}, tmp_path / "base.pth")
    stored = open_checkpoint(tmp_path / "base.pth")
    assert stored.shapes == {name: tuple(x.shape) for name, x in network.state_dict().items()}
    assert all(torch.equal(stored.read(name), x) for name, x in network.state_dict().items())


def test_the_hub_is_asked_for_the_folder_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a folder of this machine in place of the hub."""
    import huggingface_hub

    repository, asked = tmp_path / "hub", []
    repository.mkdir()
    (repository / "README.md").write_text("")

    def download(name: str, allow_patterns: Any = None, ignore_patterns: Any = None) -> str:
        asked.append((name, allow_patterns))
        return str(repository)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (repository / "sana_dit").mkdir()
    network = random_network()
    save_streaming(network, repository / "sana_dit" / "model.pt")
    assert_same(load("owner/streaming", config=TINY), network)
    assert asked == [("owner/streaming", ["dit", "dit/*"]), ("owner/streaming", None),
                     ("owner/streaming", ["sana_dit", "sana_dit/*"])]
    (repository / "dit").mkdir()
    save_file(network.state_dict(), repository / "dit" / "network.safetensors")
    assert_same(load("owner/bidirectional", config=TINY), network)
    assert load_file(repository / "dit" / "network.safetensors").keys() == network.state_dict().keys()
