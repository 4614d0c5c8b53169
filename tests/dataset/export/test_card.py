import pyarrow as pa
import yaml

from dataset.clip import ClipRecord, Kind, Verdict, index_schema, to_row
from dataset.export.card import COLUMNS, dataset_card


def index(*records: ClipRecord) -> pa.Table:
    return pa.Table.from_pylist([to_row(r) for r in records], schema=index_schema()).select(list(COLUMNS))


def clip(name: str, **fields) -> ClipRecord:
    given = {"frames": 161, "fps": 16.0, "width": 1280, "height": 720, "verdict": Verdict.KEPT,
             "source": "walks", "licence": "CC-BY-4.0", "scale_status": "metric_sensor",
             "motion": "parallax", **fields}
    return ClipRecord(name, f"video {name}", Kind.CLIP, **given)


def header(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_the_card_counts_what_was_kept_by_source_and_licence():
    table = index(clip("a"), clip("b", caption="a street", scale_status="relative"),
                  clip("c", source="games | more", licence="Own terms", frames=961),
                  clip("d", verdict=Verdict.REJECTED, reasons=["flow_dis<3"]),
                  ClipRecord("e", "e", Kind.VIDEO, verdict=Verdict.FAILED, reasons=["unreadable"]))
    card = dataset_card(table, "walks: \"all\"").decode()
    assert "**3 clips, 1 min 20 s of video**, out of 5 pieces of 5 videos." in card
    assert "| walks | CC-BY-4.0 | 2 | 0.01 | 1 | 1 |" in card
    assert "| games \\| more | Own terms | 1 | 0.02 | 1 | 0 |" in card
    assert "flow_dis<3" in card and "unreadable (video) [failed]" in card
    assert "Clips are 1280x720, 161 frames at 16 a second." in card
    assert "Scale of the translations: metric_sensor 2, relative 1." in card
    found = header(card.encode())
    assert (found["license"], found["pretty_name"]) == ("other", "walks: \"all\"")
    assert found["size_categories"] == ["n<1K"]
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "shards/kept-*.tar"}]


def test_one_known_licence_goes_into_the_header_and_an_unstated_one_is_told():
    assert header(dataset_card(index(clip("a"), clip("b")), "x"))["license"] == "cc-by-4.0"
    card = dataset_card(index(clip("a"), clip("b", licence=None)), "x")
    assert header(card)["license"] == "other"
    assert b"The licence of 1 clips is not stated" in card


def test_an_empty_data_set_has_a_card():
    card = dataset_card(index(), "nothing")
    assert b"No clip was kept." in card and header(card)["size_categories"] == ["n<1K"]
