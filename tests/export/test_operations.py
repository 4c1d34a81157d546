"""The list of operations, in TensorFlow and in ONNX Runtime, gives the network's logits."""

import onnx
import onnxruntime
import pytest
from export.networks import PIXELS, SPECS, expected, weights
from golden.reference import relative

from effnetv2_jax.export.files.onnx_graph import onnx_model
from effnetv2_jax.export.files.tensorflow_network import TensorflowNetwork
from effnetv2_jax.export.served_network import served_network

PLAIN = {"Cast", "Sub", "Mul", "Transpose", "Conv", "Sigmoid", "GlobalAveragePool", "Add", "Flatten", "Gemm"}


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("name", SPECS)
def test_tensorflow_gives_the_logits_of_the_network(name, fold):
    network = TensorflowNetwork(served_network(weights(name), fold=fold))
    assert relative(network(PIXELS).numpy(), expected(name)) < 1e-5


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("name", SPECS)
def test_the_onnx_graph_has_a_few_kinds_of_nodes_and_gives_the_logits_of_the_network(name, fold):
    model = onnx_model(served_network(weights(name), fold=fold))
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds - PLAIN == (set() if fold else {"BatchNormalization"})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for batch in (3, 1):
        [logits] = session.run(["logits"], {"images": PIXELS[:batch]})
        assert relative(logits, expected(name)[:batch]) < 1e-5


def test_squeeze_and_residuals_are_in_the_list():
    kinds = [operation.kind for operation in served_network(weights()).operations()]
    assert {"conv", "silu", "sigmoid", "mean", "multiply", "add", "dense"} == set(kinds)
    assert "norm" in [operation.kind for operation in served_network(weights(), fold=False).operations()]
