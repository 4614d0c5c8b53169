"""Faults are real: stand-in engines die, hang and write nonsense in processes of their own."""

import os
import pickle
import signal
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from annotate.child.process import Child, ChildFailed

ENGINE = """
    import os, signal, sys, time
    from pathlib import Path
    import numpy as np

    class OutOfMemoryError(RuntimeError):
        pass

    def load(settings):
        if settings.get("broken"):
            raise ImportError("no module named giant_model")
        count = [0]

        def engine(arrays, meta):
            count[0] += 1
            what = meta.get("do")
            if what == "raise":
                raise ValueError("cannot see anything\\nsecond line")
            if what == "memory":
                raise OutOfMemoryError("tried to allocate 80 GiB")
            if what == "die":
                print("about to fall over", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            if what == "orphan":
                import subprocess
                left = subprocess.Popen(["sleep", "600"])
                Path(meta["note"]).write_text(str(left.pid))
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "leave":
                sys.exit(3)
            if what == "hang":
                time.sleep(600)
            if what == "chatter":
                print("x" * 3_000_000)
            if what == "garbage":
                folder = Path.cwd()
                (folder / "000001.answer.npz").write_bytes(b"PK not a zip at all")
                time.sleep(600)
            if what == "no meta":
                np.savez(Path.cwd() / "a.npz", x=np.ones(2))
                (Path.cwd() / "a.npz").rename(Path.cwd() / "000001.answer.npz")
                time.sleep(600)
            return {"doubled": 2 * arrays["x"]}, {"calls": count[0], "pid": os.getpid(), "first": sys.path[0]}

        return engine
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "stand_in.py"
    path.write_text(textwrap.dedent(ENGINE))
    return str(path)


@pytest.fixture
def child(stand_in, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    made = Child(stand_in, {}, start_limit_s=60)
    yield made
    made.close()


def ask(child, do=None, limit_s=60.0):
    return child.ask({"x": np.arange(3.0)}, {"do": do}, limit_s)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_engine_is_loaded_once_and_leaves_nothing_behind(child):
    first, about = ask(child)
    second, again = ask(child, "chatter")
    assert (first["doubled"] == [0, 2, 4]).all() and (second["doubled"] == [0, 2, 4]).all()
    assert (about["calls"], again["calls"]) == (1, 2) and about["pid"] == again["pid"]
    folder = child._folder
    assert folder.exists() and not list(folder.glob("*.npz"))
    child.close()
    assert not is_alive(about["pid"]) and not folder.exists()


def test_names_of_ours_do_not_come_before_those_of_the_engine(child):
    root = Path(__file__).resolve().parents[3]
    assert ask(child)[1]["first"] not in (str(root), str(root / "annotate" / "child"))


@pytest.mark.parametrize(("do", "complaint"), [
    ("raise", "stand_in failed: ValueError: cannot see anything$"),
    ("die", "the process of stand_in died of SIGSEGV: about to fall over"),
    ("leave", "the process of stand_in ended with code 3: "),
    ("hang", "did not answer within 1 s"),
    ("garbage", "wrote an answer that cannot be read"),
    ("no meta", "wrote an answer that cannot be read .*no file of this protocol"),
])
def test_a_fault_fails_one_request_and_the_next_one_is_answered(child, do, complaint):
    with pytest.raises(ChildFailed, match=complaint):
        ask(child, do, limit_s=1.0 if do == "hang" else 60.0)
    assert (ask(child)[0]["doubled"] == [0, 2, 4]).all()


def test_what_a_dead_engine_had_started_is_ended_with_it(child, tmp_path):
    note = tmp_path / "pid"
    with pytest.raises(ChildFailed, match="died of SIGKILL"):
        child.ask({"x": np.ones(1)}, {"do": "orphan", "note": str(note)}, 60.0)
    deadline = time.monotonic() + 60
    while is_alive(int(note.read_text())):
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_a_killed_engine_is_started_again(child):
    pid = ask(child)[1]["pid"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ChildFailed, match="died of SIGKILL"):
        ask(child)
    assert ask(child)[1]["pid"] != pid


def test_memory_that_runs_out_in_the_child_is_torchs_own_error(child):
    with pytest.raises(torch.OutOfMemoryError, match="80 GiB"):
        ask(child, "memory")
    assert ask(child)[1]["calls"] == 2  # the same process goes on


def test_an_engine_that_cannot_be_loaded_says_why(stand_in):
    child = Child(stand_in, {"broken": True}, start_limit_s=60)
    with pytest.raises(ChildFailed, match="ended with code 1: ImportError: no module named giant_model"):
        ask(child)


def test_an_interpreter_that_is_not_there_says_so(stand_in):
    with pytest.raises(ChildFailed, match="cannot be started"):
        ask(Child(stand_in, {}, python="/nowhere/python"))


def test_a_child_travels_to_a_worker_before_it_runs_and_not_after(child):
    other = pickle.loads(pickle.dumps(child))
    assert (ask(other)[0]["doubled"] == [0, 2, 4]).all()
    with pytest.raises(ValueError, match="is running"):
        pickle.dumps(other)
    other.close()


def test_a_child_ends_with_a_parent_that_was_killed(stand_in, tmp_path):
    import subprocess
    import sys

    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
        import numpy as np
        from annotate.child.process import Child
        child = Child({stand_in!r}, {{}})
        print(child.ask({{"x": np.ones(1)}}, {{}}, 60.0)[1]["pid"], child._folder, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    pid, folder = ended.stdout.split()
    deadline = time.monotonic() + 60
    while is_alive(int(pid)) or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
