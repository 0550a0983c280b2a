"""Export of a trained network: `torch.export` and ONNX. The rule stays behind: ``net.model`` is the network itself."""

import tempfile
from pathlib import Path

import onnxruntime
import torch
from digits import accuracy, network, sets

import credit


def main(steps: int = 200) -> tuple[float, float]:
    """Train, export and return the test accuracy and the largest difference between the network's and the exports' outputs."""
    train, test = sets()
    net = credit.wrap(network(), "lisp_margin")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    net.attach(optimizer)  # which limits the updates
    x, y = train.tensors
    for at in range(steps):
        chosen = slice(32 * at % 1400, 32 * at % 1400 + 32)
        net(x[chosen], y[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model, example = net.model.eval(), test.tensors[0][:8]
    batch = {0: torch.export.Dim("batch")}
    with tempfile.TemporaryDirectory() as folder:
        exported, onnx = Path(folder) / "digits.pt2", Path(folder) / "digits.onnx"
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=(batch,)), exported)
        torch.onnx.export(
            model, (example,), onnx, dynamo=True, input_names=["x"], dynamic_shapes=(batch,), verbose=False
        )
        with torch.inference_mode():
            wanted, one = model(example), torch.export.load(exported).module()(example)
        (other,) = onnxruntime.InferenceSession(onnx).run(None, {"x": example.numpy()})
    difference = max(float((wanted - made).abs().max()) for made in (one, torch.from_numpy(other)))
    return accuracy(model, test), difference


if __name__ == "__main__":
    print("accuracy {:.1%}, largest difference {:.1e}".format(*main()))
