from __future__ import annotations

import errno
import os
import pickle
import resource
import threading
from pathlib import Path

import pytest

from dataset.store import Store, StoreError, StoreFull


def test_what_is_written_is_read_whole_and_in_ranges(store: Store) -> None:
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read("a/b.bin", 3, 7) == b"3456"
    assert store.read("a/b.bin", 8) == b"89"
    assert store.size("a/b.bin") == 10


def test_writing_again_replaces(store: Store) -> None:
    store.write("a", b"long before")
    store.write("a", b"after")
    assert store.read("a") == b"after"


def test_lists_what_is_below_a_folder_sorted_with_sizes(store: Store) -> None:
    for path in ("x/2", "x/1", "x/deep/3", "y/4", "xy"):
        store.write(path, path.encode())
    assert store.list("x") == ["x/1", "x/2", "x/deep/3"]
    assert store.list() == ["x/1", "x/2", "x/deep/3", "xy", "y/4"]
    assert store.sizes("y") == {"y/4": 3}
    assert store.list("nothing/here") == []


def test_reads_many_files_in_the_order_asked_for(store: Store) -> None:
    for number in range(5):
        store.write(f"n/{number}", bytes([number]))
    assert store.read_many([f"n/{number}" for number in (3, 0, 4)]) == [b"\x03", b"\x00", b"\x04"]
    assert store.read_many([]) == []
    assert store.read_many(["n/2"]) == [b"\x02"]
    with pytest.raises(FileNotFoundError, match="n/7"):
        store.read_many(["n/1", "n/7"])


def test_a_missing_file_is_named(store: Store) -> None:
    store.write("here", b"")
    assert store.exists("here") and not store.exists("gone/file")
    for action in (store.read, store.size):
        with pytest.raises(FileNotFoundError, match="gone/file"):
            action("gone/file")
    store.remove("gone/file")


def test_an_exclusive_write_keeps_the_first(store: Store) -> None:
    assert store.write_new("lease/1", b"first")
    assert not store.write_new("lease/1", b"second")
    assert store.read("lease/1") == b"first"
    store.remove("lease/1")
    assert store.write_new("lease/1", b"third")


def test_of_many_exclusive_writers_one_wins(local_store: Store) -> None:
    won: list[bytes] = []
    ready = threading.Barrier(8)

    def write(name: bytes) -> None:
        ready.wait()
        if local_store.write_new("lease", name):
            won.append(name)

    threads = [threading.Thread(target=write, args=(bytes([n]) * 5000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert local_store.read("lease") == won[0]
    assert os.listdir(local_store.local_path() or "") == ["lease"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(store: Store) -> None:
    store.write("a/file", b"old")
    with pytest.raises(RuntimeError), store.writing("a/file") as file:
        file.write(b"half of the new")
        raise RuntimeError("in the middle")
    assert store.read("a/file") == b"old"
    assert store.list() == ["a/file"]
    folder = store.local_path("a")
    assert folder is None or os.listdir(folder) == ["file"]


def test_a_reader_keeps_the_old_file_whole_while_a_new_one_takes_its_place(local_store: Store) -> None:
    local_store.write("a", b"old and long")
    path = local_store.local_path("a")
    assert path is not None
    with path.open("rb") as before:
        local_store.write("a", b"new")
        assert before.read() == b"old and long"
    assert local_store.read("a") == b"new"


def test_leftovers_of_killed_writers_are_no_files_and_can_be_removed(local_store: Store) -> None:
    local_store.write("a/file", b"1")
    with local_store.writing("a/other") as file:
        file.write(b"12345")
        during = local_store.list()
        leftovers = [name for name in os.listdir(local_store.local_path("a") or "") if name != "file"]
    assert during == ["a/file"] and len(leftovers) == 1
    folder = local_store.local_path("a")
    assert folder is not None
    (folder / leftovers[0]).write_bytes(b"left by a killed process")
    assert local_store.list() == ["a/file", "a/other"]
    assert local_store.remove_temporaries("a") == [f"a/{leftovers[0]}"]
    assert sorted(os.listdir(folder)) == ["file", "other"]


def test_a_full_disk_leaves_no_part_of_the_file(local_store: Store) -> None:
    """The kernel's limit on file size stands in for a full disk: writes fail half-way just the same."""
    local_store.write("a/file", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFull, match=r"a/file: no space left .*run the same command again"):
            local_store.write("a/file", bytes(300_000))
        with pytest.raises(StoreFull) as caught:
            local_store.write_new("a/new", bytes(300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert local_store.read("a/file") == b"old"
    assert os.listdir(local_store.local_path("a") or "") == ["file"]
    assert pickle.loads(pickle.dumps(caught.value)).errno == errno.ENOSPC


def test_a_spool_has_no_name(local_store: Store) -> None:
    with local_store.spool("a") as spool:
        spool.write(b"waiting")
        assert os.listdir(local_store.local_path("a") or "") == []


def test_an_address_without_driver_names_the_package() -> None:
    with pytest.raises(StoreError, match=r"abfs:// needs the package adlfs, .* pip install adlfs"):
        Store("abfs://container/folder")


def test_an_unknown_address_is_refused() -> None:
    with pytest.raises(StoreError, match="nowhere:// is not an address"):
        Store("nowhere://bucket")


def test_a_path_cannot_leave_the_store(store: Store) -> None:
    for path in ("../outside", "a/../../b", "/etc/passwd"):
        with pytest.raises(ValueError, match="not a path inside"):
            store.read(path)


def test_a_store_travels_to_other_processes_and_folders(
    local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Store("out")
    relative.write("a", b"1")
    packed = pickle.dumps(relative)
    monkeypatch.chdir("/")
    assert pickle.loads(packed).read("a") == b"1"
    assert local_store.read("a") == b"1"


def test_an_error_of_the_disk_names_file_and_cause(local_store: Store) -> None:
    local_store.write("a", b"1")
    with pytest.raises(StoreError, match=rf"a/b: cannot write it: .*Errno ({errno.ENOTDIR}|{errno.EEXIST})"):
        local_store.write("a/b", b"2")


def test_a_folder_of_a_store_is_a_store_of_its_own(store):
    inner = store.below("latents/a").below("b")
    inner.write("index/x", b"1")
    assert store.list() == ["latents/a/b/index/x"] and inner.list() == ["index/x"]
    assert inner.url.endswith("latents/a/b")
    assert pickle.loads(pickle.dumps(inner)).read("index/x") == b"1"


def test_a_copy_keeps_what_the_file_was(store):
    store.write("a/x", b"old")
    store.copy("a/x", "b/c/x")
    store.write("a/x", b"new")
    assert store.read("b/c/x") == b"old"
    store.copy("a/x", "b/c/x")
    assert store.read("b/c/x") == b"new"
    with pytest.raises(FileNotFoundError):
        store.copy("a/y", "b/y")
