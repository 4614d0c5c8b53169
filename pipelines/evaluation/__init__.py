"""The one-minute benchmark of camera-controlled generators: paths, scenes, metrics, report (paper,
App. D)."""
