import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.synthetic import SyntheticSpec, demo_items
from annotate.synthetic.spec import Motion, Place, Texture, Transition

specs = st.builds(
    SyntheticSpec, place=st.sampled_from(Place), motion=st.sampled_from(Motion),
    seed=st.integers(0, 2**31 - 1),
    width=st.integers(16, 4096).map(lambda n: 2 * n), height=st.integers(16, 4096).map(lambda n: 2 * n),
    fps=st.floats(1, 240), seconds=st.floats(0.1, 3600), shots=st.integers(1, 100), zoom=st.floats(0.25, 4),
    texture=st.sampled_from(Texture), transition=st.sampled_from(Transition), noise=st.floats(0, 64),
    moving=st.booleans(),
)


@given(specs)
def test_parsing_an_address_gives_back_the_spec(spec):
    assert SyntheticSpec.parse(spec.uri) == spec


def test_an_address_names_the_preset_and_only_what_differs():
    assert SyntheticSpec().uri == "synthetic://room-walk"
    spec = SyntheticSpec(Place.street, Motion.s_curve, zoom=1.3, moving=True)
    assert spec.uri == "synthetic://street-s_curve?zoom=1.3&moving=True"
    assert SyntheticSpec.parse("synthetic://street-s_curve?moving=true&zoom=1.3") == spec


@pytest.mark.parametrize(("uri", "part"), [
    ("synthetic://attic-walk", "unknown preset 'attic-walk'; known: room-walk"),
    ("synthetic://room-walk?speed=3", "'speed' unknown; known: seed"),
    ("synthetic://room-walk?seed=1&seed=2", "given twice"),
    ("synthetic://room-walk?seed=x", "seed='x', expected a int"),
    ("synthetic://room-walk?texture=wood", "expected rich, repeated, low"),
    ("synthetic://room-walk?moving=maybe", "expected true or false"),
    ("synthetic://room-walk?fps=0", "fps=0.0, allowed 1 to 240"),
    ("synthetic://room-walk?zoom=nan", "zoom=nan"),
    ("synthetic://room-walk?width=641", "must be even"),
    ("file:///room-walk", "expected synthetic://"),
])
def test_a_wrong_address_says_what_is_wrong(uri, part):
    with pytest.raises(ValueError, match="synthetic") as error:
        SyntheticSpec.parse(uri)
    assert part in str(error.value)


def test_the_demo_shows_parallax_outdoors_and_in_a_zoom_and_a_turning_camera():
    demo = [SyntheticSpec.parse(uri) for uri in demo_items()]
    assert [spec.uri for spec in demo] == demo_items()
    assert {spec.place for spec in demo} == set(Place)
    assert any(spec.zoom > 1.2 for spec in demo) and any(spec.shots > 1 for spec in demo)
    assert Motion.rotation_only in {spec.motion for spec in demo}
    assert all(round(spec.seconds * spec.fps) > 10 * spec.fps for spec in demo)  # 161 frames at 16 a second
    assert len({dataclasses.replace(spec, seed=0).uri for spec in demo}) == len(demo)
