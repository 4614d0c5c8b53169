"""A video to annotate, and what its owner says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from annotate.splats.config import SplatConfig, SplatVideo


class Layout(StrEnum):
    """How the files of a published set lie; docs/sources.md says where to get each."""

    none = "none"  # files, folders, URLs and manifests
    spatialvid = "spatialvid"
    dl3dv = "dl3dv"
    omniworld = "omniworld"
    sekai_game = "sekai_game"
    sekai_walking = "sekai_walking"
    miradata = "miradata"
    splats = "splats"


class Rig(StrEnum):
    """How the camera is carried, where the owner of the videos knows."""

    unknown = "unknown"
    walking = "walking"
    driving = "driving"


class Axes(StrEnum):
    """Camera axes of given poses."""

    opencv = "opencv"  # x right, y down, z forward
    opengl = "opengl"  # x right, y up, z back


class Direction(StrEnum):
    """What a given pose matrix maps."""

    c2w = "c2w"
    w2c = "w2c"


class PoseUnit(StrEnum):
    """Unit of given translations."""

    metres = "metres"
    unknown = "unknown"


class PixelCentres(StrEnum):
    """Coordinates of the centre of the top-left pixel in given intrinsics."""

    half = "half"  # (0.5, 0.5)
    integer = "integer"  # (0, 0), as OpenCV calibrations, KITTI and TUM have it


class CameraGrid(StrEnum):
    """The image that given cameras and depth belong to."""

    displayed = "displayed"  # after rotation metadata
    stored = "stored"  # as coded in the file


@dataclass
class Conventions:
    """How given cameras and depth are to be read. A manifest column of the same name wins for its row."""

    axes: Axes = Axes.opencv  # camera axes of given poses
    direction: Direction = Direction.c2w  # what a given pose matrix maps
    pose_unit: PoseUnit = PoseUnit.metres  # of given translations
    pixel_centres: PixelCentres = PixelCentres.half  # centre of the top-left pixel in given intrinsics
    camera_grid: CameraGrid = CameraGrid.displayed  # image that given cameras and depth belong to
    depth_unit: float = 0.001  # given depth times this is in the unit of the poses; 0.001: millimetres

    def __post_init__(self) -> None:
        self.axes, self.direction = Axes(self.axes), Direction(self.direction)
        self.pose_unit, self.pixel_centres = PoseUnit(self.pose_unit), PixelCentres(self.pixel_centres)
        self.camera_grid = CameraGrid(self.camera_grid)


@dataclass
class SourceConfig:
    """What is known about the videos behind `src=`."""

    name: str = ""  # of the data set; written on every row; empty: the layout's
    layout: Layout = Layout.none  # the published set whose folder `src` is: spatialvid, dl3dv, omniworld,
    # sekai_game, sekai_walking, miradata; splats: scenes of 3-D Gaussians; none: files and manifests
    licence: str | None = None  # for videos whose manifest states none; null: the layout's
    image_fps: float = 16.0  # assumed rate of pictures that come without times (dl3dv)
    rig: Rig = Rig.unknown  # how the camera was carried; never guessed
    suffixes: list[str] = field(default_factory=lambda: [
        ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv",
        ".wmv", ".3gp", ".ogv", ".mxf"])  # what counts as a video in a folder; other files are passed over
    given: Conventions = field(default_factory=Conventions)  # reading of given cameras and depth
    splats: SplatConfig = field(default_factory=SplatConfig)


@dataclass(frozen=True)
class Pictures:
    """A source that is a folder of pictures: their rate, and which of them when not all."""

    fps: float
    first: int | None = None  # number of the first picture
    stop: int | None = None  # number after the last one


@dataclass(frozen=True)
class SourceItem:
    """One video to annotate, or a stated part of one; `dataclasses.asdict` makes it plain values for JSON."""

    uri: str  # local absolute path, any fsspec URL, or synthetic://; a folder where `pictures` is set
    id: str
    start_s: float | None = None
    end_s: float | None = None
    caption: str | None = None
    licence: str | None = None
    intrinsics: list[float] | str | None = None  # fx fy cx cy, or a file of them
    intrinsics_size: list[int] | None = None  # (height, width) they belong to; None: the video's own
    poses: str | None = None  # file of one pose a frame, or of time-stamped poses
    depth: str | None = None  # folder of 16-bit PNG named by frame number, or .npz
    source: str = ""
    given: Conventions = field(default_factory=Conventions)
    layout: Layout = Layout.none  # whose files `intrinsics`, `poses` and `depth` name
    pictures: Pictures | None = None
    splat: SplatVideo | None = None  # a path through the scene of splats that `uri` names
    fault: str | None = None  # what is wrong with what the set says of it; it becomes a failed row

    @property
    def is_synthetic(self) -> bool:
        return self.uri.startswith("synthetic://")

    def __post_init__(self) -> None:
        # From JSON: SourceItem(**dataclasses.asdict(item)) == item.
        object.__setattr__(self, "layout", Layout(self.layout))
        if isinstance(self.given, dict):
            object.__setattr__(self, "given", Conventions(**self.given))
        if isinstance(self.pictures, dict):
            object.__setattr__(self, "pictures", Pictures(**self.pictures))
        if isinstance(self.splat, dict):
            object.__setattr__(self, "splat", SplatVideo(**self.splat))
