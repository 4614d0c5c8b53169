"""Ground floor: what a clip is, and the conventions every other package follows.

Axes      OpenCV: x right, y down, z forward.
Poses     camera-to-world (`c2w`), 4x4; translation in metres where the scale is known.
Time      seconds; clips run at 16 frames per second and hold 8k+1 frames.
Cameras   `intrinsics` are (fx, fy, cx, cy) in pixels of a stated image size, pixel centres at +0.5:
          the centre of the top-left pixel is (0.5, 0.5). OpenCV's feature points are integer-centred:
          add 0.5 before using them here.
Images    (H, W, 3) RGB uint8 unless a name says `bgr` or `gray`; sizes are (height, width).
"""
