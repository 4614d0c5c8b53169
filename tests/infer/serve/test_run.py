"""`python -m infer.serve` as it is typed: refused in one sentence, or served until it is told to end."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from dataset.scratch import PREFIX
from infer.sampler import Kind, SamplerConfig
from infer.serve.__main__ import main
from infer.serve.config import ServeConfig
from infer.serve.run import run
from model.dit import SanaWM
from tests.infer.conftest import SIZE
from tests.infer.serve.conftest import PATIENCE_S


@pytest.fixture(scope="module")
def tiny(network: SanaWM, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for the tiny network."""
    folder = tmp_path_factory.mktemp("weights") / "network"
    network.save_pretrained(folder)
    return [f"model={folder}", "codec=dct32", "text=hash", f"size=[{SIZE[0]},{SIZE[1]}]",
            "sampler.timesteps=[1000,0]", "port=0"]


@pytest.mark.parametrize(("arguments", "says"), [
    (["port=99999"], "port=99999, allowed 0 to 65535"), (["host=203.0.113.5"], "cannot be listened on"),
    (["token=abc"], "too short to keep anybody out"), (["quality=0"], "quality=0, allowed 1 to 100"),
    (["crf=99"], "crf=99"), (["size=[64]"], "size=[64], allowed [height,width]"),
    (["size=[60,96]"], "multiples of 32"), (["dtype=half"], "dtype=half, allowed"),
    (["limit.drives=0"], "limit.drives=0, allowed 1 or more"), (["limit.waiting=-1"], "limit.waiting=-1"),
    (["limit.idle_s=0"], "limit.idle_s=0, allowed more than 0"), (["limit.each=0"], "limit.each=0"),
    (["sampler=chunk_causal"], "sampler.kind=chunk_causal: only distilled"),
    (["offload=model"], "offload=model: parts take turns"), (["model=gone"], "there is no gone"),
    (["speed=3"], "unknown setting 'speed'"),
    (["refiner=ltx2", "refine.mode=whole"], "refine.mode=whole: refines finished videos; use blocks"),
])
def test_bad_settings_are_one_sentence_and_code_2(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", *tiny, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    found = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in found and "Traceback" not in found


def test_an_address_in_use_is_said_before_weights_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = ServeConfig(port=port, model="gone", sampler=SamplerConfig(kind=Kind.distilled))
        assert run(config) == 2
    assert f"port={port}: cannot be listened on: Address already in use" in capsys.readouterr().err


def test_it_serves_until_it_is_told_to_end_and_leaves_nothing(
    tiny: list[str], room: Path, tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "infer.serve", *tiny, "host=0.0.0.0", "token=correct horse"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        name = socket.gethostname()
        assert said.startswith(f"open http://{name}:") and said.endswith("/?token=correct%20horse\n")
        address = said.split()[1].partition("/?")[0].replace(name, "127.0.0.1")
        assert httpx.get(f"{address}/metrics", timeout=PATIENCE_S).status_code == 401
        knows = httpx.Client(base_url=address, headers={"authorization": "Bearer correct horse"},
                             timeout=PATIENCE_S)
        assert knows.post("/drives", files={"image": room.read_bytes()}).status_code == 201
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
        assert process.stdout.read() == ""
        assert list(tmp_path.glob(f"{PREFIX}*")) == []
    finally:
        process.kill()
        process.wait()
