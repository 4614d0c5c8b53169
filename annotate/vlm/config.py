"""Settings of the vision-language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class VlmEngine(StrEnum):
    """Where the model runs."""

    none = "none"  # nothing is asked
    endpoint = "endpoint"  # any server with OpenAI's chat completions, such as vLLM
    transformers = "transformers"  # in the worker, by the transformers library


@dataclass
class EndpointConfig:
    """A server that speaks OpenAI's chat completions."""

    url: str = "http://localhost:8000/v1"  # what comes before /chat/completions
    key_file: str | None = None  # file that holds the key; null: the server wants none
    timeout_s: float = 120.0  # for one answer
    retries: int = 5  # after a refusal that may pass: no connection, no answer in time, 408, 409,
    # 425, 429, 500, 502, 503, 504, 529
    wait_s: float = 1.0  # before the first retry, doubled before each other one; a server's own word wins
    rate: float | None = None  # requests a second of each worker at most; null: no limit
    parallel: int = 4  # requests of one worker under way at once


@dataclass
class VlmConfig:
    """The vision-language model that writes captions and counts what is to be seen."""

    engine: VlmEngine = VlmEngine.none  # none, endpoint, or transformers
    model: str = "Qwen/Qwen3-VL-30B-A3B-Instruct"  # as the endpoint calls it; for transformers a folder
    # or hub id
    licence: str = "as its publisher states"  # of the model; written on every clip that it described
    frames: int = 8  # of a clip that it is shown, evenly spaced
    long_side: int = 640  # of these frames, in pixels
    max_tokens: int = 400  # of an answer
    temperature: float = 0.0  # of the first attempt; 0: the likeliest words
    batch: int = 4  # clips asked about at once
    gpus: float = 1.0  # of each worker, for transformers; a fraction shares one, 0 stays on the CPU
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        self.engine = VlmEngine(self.engine)
        for name in ("frames", "max_tokens", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"vlm.{name}={getattr(self, name)}, allowed 1 or more")
        if self.long_side < 28:
            raise ValueError(f"vlm.long_side={self.long_side}, allowed 28 or more")
        if self.temperature < 0 or self.gpus < 0:
            raise ValueError(f"vlm.temperature={self.temperature:g}, vlm.gpus={self.gpus:g}: must not be "
                             "negative")
        server = self.endpoint
        if not server.url.startswith(("http://", "https://")):
            raise ValueError(f"vlm.endpoint.url={server.url}: expected http:// or https://")
        if server.retries < 0 or server.parallel < 1 or server.timeout_s <= 0 or server.wait_s < 0:
            raise ValueError(
                f"vlm.endpoint.retries={server.retries} and wait_s={server.wait_s:g}: must not be negative; "
                f"parallel={server.parallel}: 1 or more; timeout_s={server.timeout_s:g}: more than 0")
        if server.rate is not None and server.rate <= 0:
            raise ValueError(f"vlm.endpoint.rate={server.rate:g}: more than 0, or null for no limit")
