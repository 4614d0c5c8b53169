"""What is wrong with the settings is said in a sentence before anything is served."""

from __future__ import annotations

import socket

import pytest

from dataset.catalog import CatalogError
from dataset.store import Store
from pipelines.plan import PlanError
from pipelines.qa.config import QaConfig
from pipelines.qa.serve import serve


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="not a data set"):
        serve(QaConfig(str(tmp_path), port=0, open=False))
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named(shared_set: Store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlanError, match=f"port={port}: cannot be listened on"):
            serve(QaConfig(shared_set.url, port=port, open=False))


@pytest.mark.parametrize("settings, said", [
    ({"port": 70000}, "port=70000"), ({"refresh_s": 0}, "refresh_s=0"),
    ({"token": "short"}, "token: too short"),
    ({"reviewer": " "}, "reviewer"),
])
def test_values_that_make_no_sense_are_refused_by_their_key(settings, said: str):
    with pytest.raises(ValueError, match=said):
        QaConfig("data", **settings).check()
