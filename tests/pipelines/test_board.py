import pipelines.board
from pipelines.board import Board


def test_attempts_are_counted_until_a_worker_survives_one():
    board = Board()
    assert [board.begin("pose a"), board.begin("pose a"), board.begin("pose b")] == [1, 2, 1]
    board.end("pose a")
    assert board.begin("pose a") == 1


def test_clips_are_staged_once_whatever_is_repeated():
    board = Board()
    board.stage(["a", "b"])
    board.stage(["b"])
    assert board.staged() == 2
    board.release(["a"])
    board.release(["a", "never staged"])
    assert board.staged() == 1


def test_the_first_video_is_cut_alone_until_it_has_given_a_clip():
    board = Board()
    assert board.may_cut("first") and not board.may_cut("second")
    assert board.may_cut("first"), "a cutter that died and came back goes on"
    board.stage(["clip"])
    assert board.may_cut("second")


def test_a_first_video_that_ends_without_a_clip_holds_up_no_other():
    board = Board()
    assert board.may_cut("first")
    board.begin("cut first")
    assert not board.may_cut("second")
    board.end("cut first")
    assert board.may_cut("second")


def test_a_first_video_without_end_holds_up_the_others_for_its_time_only(monkeypatch):
    monkeypatch.setattr(pipelines.board, "_ALONE_S", -1.0)
    board = Board()
    assert board.may_cut("first") and board.may_cut("second")
