"""Accuracy, loss, per-class scores and memorisation, against scikit-learn and against what is known by construction."""

import math

import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.data import load
from credit.tasks.base import of
from credit.training import scores
from credit.training.evaluate import Running, evaluate, with_fresh_statistics


@pytest.fixture
def noisy_digits():
    return load(DataConfig(batch_size=50, limit_train=400), NoiseConfig("symmetric", 0.4), seed=0, device="cpu")


class Recites(nn.Module):
    """Answers a training example with a label learnt by heart, anything else with class 0."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, classes: int = 10) -> None:
        super().__init__()
        self.known = {example.numpy().tobytes(): int(label) for example, label in zip(x, y, strict=True)}
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers = [self.known.get(example.numpy().tobytes(), 0) for example in x]
        return nn.functional.one_hot(torch.tensor(answers), self.classes).float() * 50


def test_a_network_that_learnt_the_wrong_labels_has_memorized_all(noisy_digits):
    data = noisy_digits
    assert int(data.corrupted.sum()) == round(0.4 * len(data.train))
    by_heart = Recites(data.prepare(data.train.x), data.train.y)
    got = evaluate(by_heart, data, 64)
    assert (got["memorized"], got["recovered"]) == (1.0, 0.0)


def test_a_network_that_knows_the_truth_has_recovered_all(noisy_digits):
    data = noisy_digits
    truthful = Recites(data.prepare(data.train.x), data.clean_y)
    got = evaluate(truthful, data, 64)
    assert (got["memorized"], got["recovered"]) == (0.0, 1.0)


def test_accuracies_and_loss_by_hand_whatever_the_batch_size(noisy_digits):
    data = noisy_digits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    got = evaluate(model, data, 7)
    model.eval()
    logits = model(data.prepare(data.test.x)).detach()
    top5 = (logits.argsort(1, descending=True)[:, :5] == data.test.y[:, None]).any(1).double().mean().item()
    assert got["test_top1"] == pytest.approx((logits.argmax(1) == data.test.y).double().mean().item())
    assert got["test_top5"] == pytest.approx(top5)
    assert got["test_loss"] == pytest.approx(nn.functional.cross_entropy(logits, data.test.y).item(), rel=1e-5)
    assert 0 <= got["val_top1"] <= got["val_top5"] <= 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), "evaluation changed the network"


def test_clean_labels_say_nothing_of_memorisation_and_few_classes_nothing_of_top5():
    data = load(DataConfig(batch_size=50, limit_train=200, val_fraction=0), NoiseConfig(), seed=0, device="cpu")
    got = evaluate(Recites(data.prepare(data.train.x), data.train.y), data, 100)
    macro = {"test_precision", "test_recall", "test_f1"}
    assert set(got) == {"test_loss", "test_top1", "test_top5", "confusion"} | macro  # and no val: it is empty


@pytest.mark.parametrize(("classes", "answered"), [(4, 4), (4, 3), (5, 1), (2, 2)])
def test_scores_equal_scikit_learns(classes, answered):
    generator = torch.Generator().manual_seed(classes + answered)
    y = torch.randint(0, classes, (200,), generator=generator)
    predicted = torch.randint(0, answered, (200,), generator=generator)  # where fewer: some classes are never answered
    counts = scores.confusion(predicted, y, classes)
    assert counts.tolist() == confusion_matrix(y, predicted).tolist()
    each = precision_recall_fscore_support(y, predicted, zero_division=0)[:3]
    assert scores.by_class(counts).T.tolist() == [pytest.approx(list(one)) for one in each]
    mean = precision_recall_fscore_support(y, predicted, average="macro", zero_division=0)[:3]
    assert scores.macro(counts).tolist() == pytest.approx(list(mean))


def test_a_class_that_never_occurs_is_in_no_mean_and_one_never_answered_has_precision_0():
    y, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 0])
    assert scores.macro(scores.confusion(predicted, y, 7)).tolist() == pytest.approx([0.25, 0.5, 1 / 3])
    balanced = torch.tensor([[3, 1, 0], [2, 2, 0], [1, 0, 3]])  # as many of each class: recall is the accuracy
    assert scores.macro(balanced)[1].item() == pytest.approx(8 / 12)


def test_an_evaluation_says_how_each_class_was_answered(noisy_digits):
    data = noisy_digits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    got = evaluate(model, data, 64, per_class=True)
    answers = model(data.prepare(data.test.x)).argmax(1)
    assert got["confusion"] == {"classes": data.names, "test": confusion_matrix(data.test.y, answers).tolist()}
    expected = precision_recall_fscore_support(data.test.y, answers, average="macro", zero_division=0)
    assert [got["test_precision"], got["test_recall"], got["test_f1"]] == pytest.approx(list(expected[:3]))
    by_class = precision_recall_fscore_support(data.test.y, answers, zero_division=0)
    assert [row["recall"] for row in got["per_class"].values()] == pytest.approx(list(by_class[1]))
    assert got["test_recall"] == pytest.approx(sum(row["recall"] for row in got["per_class"].values()) / 10)


def test_running_statistics_are_means_over_examples():
    running = Running(torch.device("cpu"), of("classification"))
    assert running.summary() == {}
    running.add(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor(1.0), torch.tensor([0, 0]))
    running.add(torch.tensor([[2.0, 1.0]]), torch.tensor(4.0), torch.tensor([0]))
    assert running.summary() == pytest.approx({"train_loss": 2.0, "train_top1": 2 / 3})
    other = Running(torch.device("cpu"), of("classification"))
    other.restore(running.state())
    assert other.summary() == running.summary()
    running.reset()
    assert running.summary() == {}
    assert not math.isnan(other.summary()["train_loss"])


def test_fresh_statistics_are_the_plain_average_over_the_batches_and_leave_the_network_alone():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4), nn.BatchNorm1d(4)
    )
    model(torch.randn(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [torch.randn(16, 3) * 2 + 1 for _ in range(4)]
    fresh = with_fresh_statistics(model, batches)
    assert isinstance(fresh, nn.Sequential)
    assert model.training and not fresh.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    entering = [fresh[0](x) for x in batches]
    first, second = fresh[1], fresh[5]
    assert isinstance(first, nn.BatchNorm1d) and isinstance(second, nn.BatchNorm1d)
    torch.testing.assert_close(first.running_mean, torch.stack([h.mean(0) for h in entering]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([h.var(0) for h in entering]).mean(0))
    normed = [nn.functional.batch_norm(h, None, None, first.weight, first.bias, training=True) for h in entering]
    above = [fresh[4](normed_batch.relu()) for normed_batch in normed]  # without dropout
    torch.testing.assert_close(second.running_mean, torch.stack([h.mean(0) for h in above]).mean(0))


def test_a_network_without_batch_norm_is_evaluated_as_it_is():
    model = nn.Linear(3, 4)
    assert with_fresh_statistics(model, iter([torch.zeros(2, 3)])) is model
