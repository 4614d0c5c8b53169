"""What a model is asked for a caption, and what is wrong with what it says."""

from __future__ import annotations

import re

from annotate.caption.config import CaptionConfig
from annotate.caption.rule import camera_motion

VERSION = "1"
"""Changes with the words below."""

_ASK = (
    "These pictures come from one video, in order of time. Write one paragraph of {least} to {most} words "
    "that "
    "says what is to be seen there: the place and what it is built of, its objects and where they stand to "
    "each other, people and animals and what they do, light, weather and style. Describe it as a place that "
    "exists, not as pictures: do not mention the camera, the viewer, the video or the pictures, and say "
    "nothing "
    "of how the view moves or from whose eyes it is. Answer with the paragraph alone."
)
_AGAIN = (
    "\n\nAn earlier answer was not good: {fault}. It was:\n{answer}\n\nWrite it anew without that fault."
)
_FRAME = re.compile(r"^\s*(?:\*\*)?(?:caption|description|answer)(?:\*\*)?\s*:\s*(?:\*\*)?\s*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^(?:i(?:'m| am) (?:sorry|unable|not able)|sorry\b|i (?:cannot|can't|can not|won't)\b|as an ai\b|"
    r"unfortunately, i\b)", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def ask_text(config: CaptionConfig) -> str:
    """The question of the first attempt."""
    return _ASK.format(least=max(config.least_words, min(40, config.most_words)), most=config.most_words)


def again_text(config: CaptionConfig, answer: str, fault: str) -> str:
    """The question after an answer that has a fault."""
    return ask_text(config) + _AGAIN.format(fault=fault, answer=answer or "(nothing)")


def plain_words(answer: str) -> str:
    """An answer on one line, without the quotes and headings that models like to put around it."""
    text = _THOUGHT.sub("", answer).strip()
    text = " ".join(_FRAME.sub("", text).replace("**", "").split())
    if len(text) > 1 and text[0] in "\"'\u201c" and text[-1] in "\"'\u201d":
        text = text[1:-1].strip()
    return text


def fault_of(caption: str, config: CaptionConfig, is_whole: bool = True) -> str | None:
    """What is wrong with a model's caption, in words that the model understands; None if nothing is."""
    count = len(caption.split())
    if not caption:
        return "it was empty"
    if _REFUSAL.search(caption.replace("\u2019", "'")):
        return "it declined to answer"
    if not is_whole:
        return "it was so long that it was cut off"
    if count < config.least_words:
        return f"it has {count} words, at least {config.least_words} are wanted"
    if count > config.most_words:
        return f"it has {count} words, at most {config.most_words} are wanted"
    return camera_fault(caption)


def camera_fault(caption: str) -> str | None:
    """What is wrong with any caption that speaks of the camera's motion; None if it does not."""
    words = camera_motion(caption)
    return None if words is None else f"it speaks of the camera's motion: \"{words}\""
