"""What the races share: one thread on both sides, and the recipe of a test as the plain side."""

import importlib.util
from pathlib import Path

import cv2
import pytest
import torch


@pytest.fixture
def one_thread():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="session")
def module_of():
    """Return ``module_of(path)``: the module of a test, whose reference is the side that is compared with."""

    def load(path):
        spec = importlib.util.spec_from_file_location("reference_" + Path(path).stem, Path(__file__).parents[1] / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
