import json
import subprocess

from dataset.clip import ClipRecord, Kind, Verdict
from dataset.export.fiftyone import samples_json

KEPT = ClipRecord("a" * 20, "v", Kind.CLIP, uri="/x.mp4", source="walks", verdict=Verdict.KEPT,
                  flow_dis=3.25, frames=17, fps=16.0, width=96, height=64, cuts=0.0)
REJECTED = ClipRecord("b" * 20, "v", Kind.CLIP, verdict=Verdict.REJECTED, reasons=["flow_dis<3"],
                      flow_dis=1.0)
LOAD = """
import sys
import fiftyone.utils.data.importers as importers
asked = importers.FiftyOneDatasetImporter(dataset_dir=sys.argv[1])
assert asked._is_legacy_format_data()
importer = asked._to_legacy_importer()
with importer:
    for sample in importer:
        frames = sample.metadata and sample.metadata.total_frame_count
        print(sample.media_type, sample.flow_dis, frames, sample.tags)
"""


def test_samples_hold_what_is_known_and_leave_out_what_is_not():
    kept, rejected = json.loads(samples_json([KEPT, REJECTED]))["samples"]
    assert kept["filepath"] == f"data/{'a' * 20}.mp4"
    assert (kept["tags"], rejected["tags"]) == (["kept"], ["rejected", "flow_dis<3"])
    assert (kept["flow_dis"], kept["source"], kept["cuts"]) == (3.25, "walks", 0.0)
    assert "saturation" not in kept and "metadata" not in rejected
    assert "frames" not in kept  # the name of frame labels there
    assert kept["metadata"]["total_frame_count"] == 17


def test_fiftyone_reads_them(tmp_path, tool):
    (tmp_path / "samples.json").write_bytes(samples_json([KEPT, REJECTED]))
    said = subprocess.run([tool("fiftyone", "python"), "-c", LOAD, str(tmp_path)], check=True, text=True,
                          capture_output=True, env={"HOME": str(tmp_path)}, timeout=200).stdout
    assert "video 3.25 17 ['kept']" in said
    assert "video 1.0 None ['rejected', 'flow_dis<3']" in said
