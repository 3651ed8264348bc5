"""Processes that begin at once: forks of one that has imported what they need."""

import multiprocessing
import os
from typing import Any

import pytest
from conftest import REPOSITORY

MODULES = ["wavediff.cli.train", "wavediff.training", "litdata", "torch.utils.tensorboard", "test_recipes_distributed"]


def forking(patch: pytest.MonkeyPatch) -> Any:
    """The context of such processes; those that write shards are such ones too, which litdata would spawn."""
    import litdata

    context = multiprocessing.get_context("forkserver")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]))
    context.set_forkserver_preload(MODULES)
    optimize = litdata.optimize
    patch.setattr(litdata, "optimize", lambda *a, **options: optimize(*a, **options | {"start_method": "forkserver"}))
    return context
