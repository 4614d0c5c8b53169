"""The rule on sentences of both kinds."""

import pytest

from annotate.caption.rule import camera_motion

SPEAKS_OF_THE_CAMERA = """
The camera pans slowly to the left across the valley.
A quiet street lined with trees. The camera moves forward along the pavement.
As the camera glides past the shelves, more books appear.
The camera slowly and smoothly tilts up to show the ceiling.
The camera then begins to rotate around the statue.
The camera remains static throughout.
The camera is fixed on a wooden door.
The camera follows a man in a red coat.
The camera captures a busy market.
The handheld camera shakes slightly.
Camera moves forward through the forest.
A forest path in autumn, camera tracking forward.
The scene is calm, with little camera movement.
A low camera angle shows the steps of the temple.
Smooth camera work gives a sense of calm.
The gentle motion of the camera suggests a boat.
A tracking shot through a market with fruit stalls.
A slow dolly shot towards an old piano.
An aerial drone shot of a coastline at dusk.
A crane shot rises over the rooftops.
A static shot of a kitchen.
Handheld footage of a train station.
A slow pan to the left reveals a lake.
A smooth zoom onto the painting.
A quick tilt up the tower.
The view zooms in on a clock.
Zooming in on the face of the statue.
The image zooms out and shows the whole square.
Panning across the mountains, the sun sets.
The valley is green, panning right towards a farm.
The view moves down the corridor towards a window.
The view slowly shifts to the right, where a bridge stands.
Our view glides over the rooftops.
The perspective moves through a narrow alley.
The shot pulls back to reveal the whole room.
The footage follows a cyclist through traffic.
The video moves along a river bank.
The scene pans over the ruins.
The frame tilts downward to the floor.
A first-person view of a walk through a garden.
A POV of someone walking on a beach.
Shown in first person, a garden with roses.
A walk through Tokyo from the point of view of a pedestrian.
We move through a hall with marble columns.
We then slowly approach the altar.
The viewer is led through a maze of hedges.
The path takes us through a pine forest.
Filmed with a handheld device, the square is crowded.
Seen from a slowly moving vehicle, the houses are white.
Moving forward along the trail, the view opens to a lake.
An orbiting view of a marble fountain.
The view is orbiting around a red car.
The shot begins to push in on the door.
A camera’s movement along the shelf is smooth.
The forward motion through the tunnel is steady.
The camera turns left at the corner.
The camera travels through a tunnel of trees.
A steadicam shot follows the corridor.
The clip follows a winding road.
Dollying in, the portrait becomes larger.
""".strip().splitlines()

SPEAKS_OF_THE_SCENE = """
A pan on the stove is full of boiling water.
Copper pans hang from hooks above the sink.
A frying pan to the left of the sink holds two eggs.
Prospectors are panning for gold in a shallow river.
A zoom lens lies in a shop window beside old cameras.
A motorcycle zooms past the crossing.
Cars zoom by on the motorway in the background.
A laptop on the desk shows a Zoom meeting.
A worker pushes a dolly loaded with boxes through the warehouse.
A child holds a dolly in a blue dress.
The old windmill tilts slightly to one side.
Her head tilts down as she reads.
A tilt-up garage door stands open.
A satellite model orbits a globe in the museum hall.
Trams move along the track in the middle of the street.
A track runs around the football field.
A tracking collar hangs on the dog's neck.
A security camera is mounted above the entrance.
A security camera is fixed to the brick wall.
A tourist with a camera follows the guide through the temple.
A man holds a camera and photographs the cathedral.
People walk past the camera shop on the corner.
A dog runs towards the camera over a meadow.
A woman smiles at the camera.
The view opens onto a wide valley with terraced fields.
The view from the balcony shows red roofs and the sea.
An aerial view of a harbour with white boats.
A bird's-eye view of terraced rice fields.
A cyclist moves to the right along the path.
Two people walk forward between the market stalls.
The scene shows a busy crossing at night.
The scene is lit by neon signs, and rain falls.
Leaves drift down from the trees and a boat glides over the lake.
A crane lifts steel beams at a building site.
A yellow crane stands over the harbour.
A train pulls out of the station.
He pulls back the curtain and light falls in.
A boom gate closes across the road.
Ducks follow their mother across the pond.
A truck turns left at the junction.
Trucks move along the highway towards the city.
The first person in the queue wears a green hat.
A poster advertises a first-person shooter.
A rotating sign stands above the petrol station.
The sky turns orange as the sun sets.
A handheld fan lies on the table.
A picture frame hangs on the wall of the corridor.
Shots of espresso stand on a bar counter.
Pedestrians rush by, and a bus approaches the stop.
A drone hovers above the field while children watch.
A static caravan stands among pines.
The film crew sets up a camera on a tripod at the river.
A merry-go-round rotates with painted horses.
Fishing boats move in and out of the harbour.
A steep staircase leads up to the chapel.
A path leads through the forest to a wooden cabin.
A waterfall drops into a pool; mist rises from the rocks.
The road winds through the mountains and ends at a lake.
Waves push in from the left and break on the rocks.
A mother pushes a stroller and a dog follows.
Escalators move up and down between glass walls.
A perspective drawing hangs beside the window.
The footage is grainy and grey, with a tiled platform and a waiting train.
Steam rises from a pan of soup while a cook stirs.
A person stands still and looks toward the right.
The moving walkway carries travellers through the terminal.
""".strip().splitlines()


@pytest.mark.parametrize("sentence", SPEAKS_OF_THE_CAMERA)
def test_words_on_the_camera_are_found(sentence):
    assert camera_motion(sentence) is not None
    assert camera_motion(f"A quiet place with old houses. {sentence} It is bright.") is not None


@pytest.mark.parametrize("sentence", SPEAKS_OF_THE_SCENE)
def test_words_on_the_scene_pass(sentence):
    assert camera_motion(sentence) is None
    assert camera_motion(f"A quiet place with old houses. {sentence} It is bright.") is None


def test_the_words_that_break_the_rule_are_named():
    assert camera_motion("A park. The camera slowly pans left over a pond.") == "The camera slowly pans"
