import subprocess
import sys
import time

from pipelines.processes import descendants, end

DEAF = ("import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('ready', flush=True); time.sleep(600)")


def test_children_and_their_children_are_found_and_ended():
    before = set(descendants())
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        started = [process for process in descendants() if process not in before]
        assert len(started) == 2 and child.pid in {process.pid for process in started}
        end(started, patience_s=0.1)
        child.wait(timeout=30)
        deadline = time.monotonic() + 30
        while any(process.is_alive for process in started):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_processes_that_end_by_themselves_are_left_to_it():
    before = set(descendants())
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"]) as child:
        end([process for process in descendants() if process not in before], patience_s=60.0)
    assert child.returncode == 0
