"""Settings of `python -m pipelines.import_set`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from annotate.config import WriteConfig
from annotate.filters import Thresholds
from dataset.fit import Framing


class SetLayout(StrEnum):
    """Published sets that come with finished cameras; docs/sources.md says where to get each."""

    sana_wm = "sana_wm"  # the example training set published with SANA-WM


@dataclass
class LatentImportConfig:
    """Latents that come with the set."""

    src: str | None = None  # folder or URL of the latent zips; null: none are imported
    codec: str = ""  # what made them: a folder or hub id of the LTX-2 VAE; required with src
    text: str = "hash"  # hash (no weights), else a folder or hub id of Gemma-2-2b-it, for the captions
    chi_prompt: str | None = None  # config.yaml with the instruction before every caption; null: the released
    text_tokens: int = 300  # of text=hash: states of a caption
    text_channels: int = 2304  # of text=hash: numbers in a state
    framing: Framing = Framing.stretch  # how the encoded video was made from the clip: stretch, each side by
    # its own ratio, as the published loader's intrinsics have it; cover, resized and the middle cut out
    check: float | None = 0.3  # encode the first frame of the first clip that has video: more than this share
    # of its latents' energy may not differ; null: take the latents on trust
    name: str | None = None  # of the latent set, a folder in latents/; null: from codec and size
    device: str = "cpu"  # where codec and text encoder run


@dataclass
class ImportSetConfig:
    """A published set with finished cameras in, a data set out."""

    layout: SetLayout = SetLayout.sana_wm  # which published set
    src: str = "???"  # its folder or URL
    out: str = "???"  # folder or URL of the data set; a second run continues it
    name: str = "sana_wm_example"  # written on every row as its source
    licence: str = "Sekai licence (non-commercial research), as the set's card says"  # written on every row
    fps: float = 16.0  # of the clips; video of another rate makes no clip
    selfcheck: int = 1  # clips of every zip, from its first, whose cameras are compared with their images;
    # the import stops if those of the first that can be judged contradict them
    latents: LatentImportConfig = field(default_factory=LatentImportConfig)
    thresholds: Thresholds = field(default_factory=Thresholds)
    write: WriteConfig = field(default_factory=WriteConfig)

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        self.write.check()
        if self.selfcheck < 0:
            raise ValueError(f"selfcheck={self.selfcheck}, allowed 0 or more")
        if not self.fps > 0:
            raise ValueError(f"fps={self.fps}, frames a second above 0")
        if self.latents.check is not None and not 0 < self.latents.check <= 1:
            raise ValueError(f"latents.check={self.latents.check}, a share in (0, 1]")
        if self.latents.src is not None and self.latents.codec == "":
            raise ValueError("latents.codec= is missing: name the VAE that made the latents")
