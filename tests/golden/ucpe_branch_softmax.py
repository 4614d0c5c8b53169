"""As `ucpe_branch_gdn`, for a block with softmax attention."""

from tests.golden import ucpe_branch_gdn
from tests.golden.fixture import Comparison, Fixture

TOLERANCE = 3e-6


def check(fixture: Fixture) -> list[Comparison]:
    return ucpe_branch_gdn.check(fixture, TOLERANCE)
