"""Loading without initialisation has the values of transformers' own loading, and restores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.models.checkpoints import SaveOnce
from worker.engine.errors import LoadError
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_config, read_weights

#: Kinds of buffers that no file has: positions, frequencies of rotations, those of images.
KINDS = ("vqa", "instructblip-llama", "qwen2_vl")


def load_network(path: Path, network_class: Any = None) -> Any:
    """Load the network of a checkpoint's own class as a worker does."""
    snapshot = resolve(str(path))
    name = read_config(snapshot).architectures[0]
    network_class = network_class or getattr(transformers, name)
    return read_weights(network_class, snapshot, "fp32", torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_no_file_has_are_those_of_transformers(kind: str, save_once: SaveOnce) -> None:
    path = save_once(kind)
    network = load_network(path)
    expected = type(network).from_pretrained(path, dtype=torch.float32)
    buffers = dict(expected.named_buffers())
    assert dict(expected.named_non_persistent_buffers())
    assert dict(network.named_buffers()).keys() == buffers.keys()
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    parameters = dict(expected.named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, parameters[name]), name


def test_a_load_leaves_the_initialisation_of_other_networks_intact(
    save_once: SaveOnce,
) -> None:
    path = save_once("vqa")

    class Broken(transformers.BlipForQuestionAnswering):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            raise RuntimeError("no network")

    originals = (torch.nn.init.normal_, transformers.PreTrainedModel.init_weights)
    load_network(path)
    with pytest.raises(LoadError, match="no network"):
        load_network(path, Broken)
    assert (torch.nn.init.normal_, transformers.PreTrainedModel.init_weights) == originals
