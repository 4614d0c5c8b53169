"""Whether a caption speaks of the camera's motion, which is for the camera path alone to say.

Bare words will not do: a pan may stand on a stove and a zoom lens in a window. So the patterns look for who
moves (the camera, the view, we) and for the names of shots.
"""

from __future__ import annotations

import re

_ADVERBS = (r"(?:(?:\w+ly|then|now|just|also|still|always|first|again|next|soon|back|first|seems to|"
            r"appears to|"
            r"begins? to|starts? to|continues? to|is|are|was|were|and)\s+){0,3}")
_WAYS = (r"(?:left|right|leftwards?|rightwards?|up|down|upwards?|downwards?|in|out|forwards?|backwards?|back|"
         r"away|closer|around)")
_MOVES = (
    r"(?:mov(?:es?|ed|ing)|pans?|pann(?:ed|ing)|tilt(?:s|ed|ing)?|zoom(?:s|ed|ing)?|track(?:s|ed|ing)?|"
    r"follow(?:s|ed|ing)?|glid(?:es?|ed|ing)|orbit(?:s|ed|ing)?|rotat(?:es?|ed|ing)|push(?:es|ed|ing)?|"
    r"pull(?:s|ed|ing)?|doll(?:y|ies|ied|ying)|truck(?:s|ed|ing)|drift(?:s|ed|ing)?|ris(?:es|ing)|rose|"
    r"descend(?:s|ed|ing)?|ascend(?:s|ed|ing)?|sweep(?:s|ing)?|swept|circl(?:es?|ed|ing)|travel(?:s|l?ed|"
    r"l?ing)?|"
    r"advanc(?:es?|ed|ing)|approach(?:es|ed|ing)?|progress(?:es|ed|ing)?|proceed(?:s|ed|ing)?|"
    r"retreat(?:s|ed|ing)?|swing(?:s|ing)?|swivel(?:s|ed|ing)?|shak(?:es?|ing|y)|wobbl(?:es?|ing)|"
    r"fl(?:y|ies|ew|ying)|float(?:s|ed|ing)?|hover(?:s|ed|ing)?|walk(?:s|ed|ing)?|driv(?:es?|ing)|drove|"
    r"soar(?:s|ed|ing)?|climb(?:s|ed|ing)?|bob(?:s|bed|bing)?|veer(?:s|ed|ing)?|trail(?:s|ed|ing)?|"
    r"navigat(?:es?|ed|ing)|accelerat(?:es?|ed|ing)|slows|shift(?:s|ed|ing)?)")
_TURNS = r"(?:turn(?:s|ed|ing)?|head(?:s|ed|ing))"
_CAMERA_DOES = (
    r"(?:captur(?:es?|ed|ing)|shows?|reveal(?:s|ed|ing)?|focus(?:es|ed|ing)?|look(?:s|ed|ing)?|fac(?:es?|"
    r"ing)|"
    r"linger(?:s|ed|ing)?|paus(?:es?|ed|ing)|stay(?:s|ed|ing)?|remain(?:s|ed|ing)?|keep(?:s|ing)?|kept|"
    r"hold(?:s|ing)? (?:still|steady|on)|stops?|static|stationary|fixed|steady|positioned|pointed|aimed|"
    r"angled|"
    r"provid(?:es?|ing)|offer(?:s|ing)?|cuts?|passes|enters)")

_PATTERNS = [re.compile(pattern, re.IGNORECASE) for pattern in (
    # the camera as the one who does something; a camera that somebody holds is a thing like others
    rf"(?<!with )(?<!security )(?<!a )\bthe (?:moving |handheld |static |drone )?camera(?:'s view)?,? "
    rf"{_ADVERBS}(?:{_MOVES}|{_TURNS}|{_CAMERA_DOES})\b",
    rf"(?:^|[.;:!]\s+|,\s+(?:as |while |and )?)(?:handheld |moving |static )?camera {_ADVERBS}"
    rf"(?:{_MOVES}|{_TURNS}|{_CAMERA_DOES})\b",
    rf"\bas (?:if )?(?:the|a) camera {_ADVERBS}(?:{_MOVES}|{_TURNS})\b",
    r"\bcamera(?:'s)? (?:movements?|motion|work|moves?|pans?|tilts?|paths?|shakes?|zooms?|rotations?|"
    r"trajectory|angles?|perspectives?|viewpoints?|positions?)\b|\bcamerawork\b",
    r"\b(?:movements?|motion|rotation|panning|tilting|shaking) of the camera\b",
    r"\b(?:static|stationary|fixed|moving|handheld|hand-held|shaky|steady|floating|drone|dashboard|body|"
    r"helmet|chest|action)[- ](?:camera|cam) (?:view|shot|footage|perspective)\b",
    r"\b(?:filmed|shot|recorded|captured|seen|viewed) (?:from|with|by|using) (?:a|an|the) "
    r"(?:slowly |steadily |smoothly |gently )?(?:moving|panning|tracking|rotating|orbiting|handheld|"
    r"hand-held|"
    r"gliding|drifting|static|stationary|fixed|steady|tripod-mounted)\b",
    # the view, or the picture itself
    rf"\b(?:the|our) (?:view|viewpoint|viewer's view|perspective|vantage point|point of view|footage|"
    rf"video|frame|"
    rf"shot|clip) {_ADVERBS}(?:{_MOVES}|{_TURNS} (?:{_WAYS}|to|towards?))\b",
    rf"\bthe scene {_ADVERBS}(?:pans?|panning|tilts?|zooms?|zooming|moves|moving|scrolls|glides|"
    rf"shifts (?:{_WAYS}|to|towards?)|rotates|advances|orbits)\b",
    rf"\b(?:view|perspective|viewpoint) (?:moving|panning|gliding|tilting|zooming|rotating|tracking|orbiting|"
    rf"pushing|pulling) (?:\w+ly )?(?:{_WAYS}|through|along|across|over|past|into|towards?)\b",
    # names of shots
    r"\b(?:tracking|dolly|crane|jib|boom|pan|panning|tilt|tilting|zoom|zooming|orbit|orbiting|orbital|"
    r"trucking|"
    r"pedestal|steadicam|gimbal|handheld|hand-held|push-?in|pull-?back|pull-?out|follow|fly-?(?:through|"
    r"over|by)|"
    r"walk-?through|drone|arc|whip[- ]pan|static|stationary|moving|one-take|360-degree|rotating) "
    r"(?:camera )?(?:shots?|footage|take)\b",
    r"\b(?:tracking|dolly|panning|tilting|orbiting|orbital|trucking) (?:camera )?(?:views?|movements?|"
    r"motion|moves?)\b",
    r"\b(?:slow|smooth|gentle|quick|fast|steady|gradual|sweeping|cinematic|subtle|slight|whip|horizontal|"
    r"vertical|"
    r"lateral|continuous|upward|downward|leftward|rightward)[ -](?:pan|tilt|zoom|dolly|orbit)s?\b"
    r"(?! (?:of|fried|lens|meeting|call))",
    r"\b(?:pan|tilt|zoom|dolly)[ -](?:in|out|up|down|left|right|back)s?\b (?:on|onto|to reveal|reveals?|"
    r"shows?|over|across|towards?|from)\b",
    # words that nothing but a camera does
    r"\bzoom(?:s|ed|ing)? (?:in|out)\b|\bzoom[- ](?:in|out)s?\b",
    r"(?:^|[.;:!]\s+|,\s+)(?:\w+ly )?(?:panning|tilting|zooming|dollying|trucking|tracking|orbiting)"
    rf"(?: \w+ly)? (?:{_WAYS}|across|along|over|through|around|past|to|towards?|into|from|"
    rf"the)\b(?! for gold)",
    r"\b(?:pans|panning|panned) (?:\w+ly )?(?:across|(?:left|right|up|down)(?:wards?)?(?! (?:of|side|on|"
    r"in|by))"
    r"|to reveal|from (?:the )?(?:left|right|top|bottom))\b",
    r"\bpull(?:s|ing|ed)? (?:back|out|away) to (?:reveal|show)\b|\bpush(?:es|ing|ed)? in (?:on|towards?|"
    r"to)\b",
    r"\bdoll(?:y|ies|ying) (?:in|out|forwards?|backwards?|back|left|right)\b(?! (?:the|an?|of|front) )",
    # whose eyes these are
    r"\bPOV\b|\bfirst-person\b(?! (?:shooter|narrat|plural))|\bin (?:the )?first person\b|"
    r"\bfirst person (?:view|perspective|shot|camera|angle|viewpoint|footage|video|point)\b",
    r"\bfrom (?:the|a) (?:\w+[- ])?(?:point of view|viewpoint|perspective) of (?:a|an|the|someone|"
    r"somebody)\b",
    # we who go along
    rf"\b(?:we|the viewer|the observer|the spectator) {_ADVERBS}(?:{_MOVES}|{_TURNS}|pass|enter|exit|"
    rf"leave|continue|go|"
    r"led|carried|taken|guided|transported|brought|drawn)\b",
    r"\btak(?:es|ing) (?:us|the viewer|viewers|you) (?:through|along|past|across|into|over|down|up|on|"
    r"around)\b",
    r"\b(?:guides?|guiding|leads?|leading|carr(?:y|ies|ying)) (?:us|the viewer|viewers) (?:through|along|"
    r"past|"
    r"across|into|over|down|up|around|forward)\b",
    r"(?:^|[.;:!]\s+)(?:\w+ly )?(?:moving|gliding|flying|travell?ing|advancing|drifting|pushing|rotating|"
    rf"turning) (?:\w+ly )?(?:{_WAYS}|through|along|across|past|around)\b[^.]*?, (?:we|the view|the scene|"
    rf"the frame|"
    r"the camera|the image|the video|more)\b",
    r"\b(?:forward|backward|lateral|sideways|circular|orbital) (?:movement|motion) (?:through|along|past|"
    r"across|"
    r"around|of the (?:view|camera|viewer|shot))\b",
)]


def camera_motion(caption: str) -> str | None:
    """The first words of a caption that speak of the camera's motion; None where none do."""
    text = " ".join(caption.replace("\u2019", "'").replace("\u2011", "-").split())
    found = [match for pattern in _PATTERNS if (match := pattern.search(text))]
    first = min(found, key=lambda match: match.start(), default=None)
    return first.group().strip(" .,;:!") if first is not None else None
