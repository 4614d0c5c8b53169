from enum import Enum


class CameraType(Enum):
    PINHOLE = "pinhole"
