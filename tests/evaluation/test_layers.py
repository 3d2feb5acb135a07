from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.evaluation.layers import first_divergence, graph_values
from tests.evaluation.conftest import linear_graph

WEIGHT = np.random.default_rng(0).standard_normal((6, 4))
INPUTS = {"x": np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)}
