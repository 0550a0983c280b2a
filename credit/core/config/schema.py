"""Schema of a run's configuration: one frozen class of options for each group. Imports no torch.

A configuration reaches the code only as a `RunConfig`, made by `credit.core.config.check`. Names, defaults and meaning are
the command line's: the field `optimizer.lr` is the override ``optimizer.lr=0.1``.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from credit.core import registry
from credit.core.errors import UserError
from credit.core.options import LARGEST_SEED, of_class, opt

GROUPS = ("rule", "arch", "data", "noise", "optimizer", "schedule", "trainer", "logger")
"""Configuration groups that describe a run; `experiment` and `debug` only override values in these."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
"""A number as it is written on the command line."""

OPEN_GROUPS = ("rule", "arch")
"""Groups whose options are those of the chosen kind alone; a run has them as a mapping."""

RATELESS = ("human", "matrix")
"""Kinds of noise that have no rate to choose."""

_IMAGES = "kind!=csv|diabetes|ones|sign_line|tabular|text"
_FOLDER = "kind=image_folder"
_TABLE = "kind=tabular"


@dataclass(frozen=True)
class DataConfig:
    """Which examples, how many, and what is done to them before the network sees them."""

    kind: str = opt("digits", "the data set")
    task: Literal["auto", "classification", "regression", "reconstruction"] = opt(
        "auto",
        "what is predicted: auto: the set's targets, classes, numbers or the next token; reconstruction: the inputs",
    )
    target_scale: Literal["standard", "none"] = opt(
        "standard", "of numbers as targets: mean 0 and standard deviation 1 over the training part, or as they are"
    )
    batch_size: int = opt(128, "examples a step", ge=1)
    limit_train: int | None = opt(None, "keep this many training examples alone; null: all", ge=1)
    limit_test: int | None = opt(None, "keep this many test examples alone; null: all", ge=1)
    val_fraction: float = opt(0.1, "part of the training set kept for choosing the best epoch", ge=0, lt=1)
    val_size: int | None = opt(None, "number of examples kept instead; null: val_fraction says", ge=1)
    val_split: Literal["stratified", "last"] = opt(
        "stratified", "drawn, every class in proportion, or the last training images as stored"
    )
    val_noise: bool = opt(False, "the validation labels are noisy too, by the noise of the training labels")
    test_fraction: float | None = opt(
        None, "pool the set's own parts and draw this part of them as the test part; null: the set's own", gt=0, lt=1,
        when="kind!=sign_line|tabular",
    )  # fmt: skip
    split_seed: int | None = opt(
        0, "seed of splits and limits, the same over the run's seeds; null: the run's seed", ge=0, le=LARGEST_SEED
    )
    augment: list[str] = opt([], "random changes of training images", choices=("crop", "flip", "cutout"), when=_IMAGES)
    crop_padding: int = opt(
        4, "pixels around an image before data.augment=[crop] cuts its size out of it", ge=0, when=_IMAGES
    )
    cutout_size: int = opt(8, "pixels of the side of the square that is blanked", ge=1, when="augment=cutout")
    normalize: Literal["none", "unit", "standard", "imagenet", "gcn", "zca"] = opt(
        "standard", "scaling of the input, fitted on the training part"
    )
    preprocess: Literal["none", "gcn", "zca", "gcn_zca"] = opt(
        "none", "of whole images, before normalisation and augmentation", when=_IMAGES
    )
    zca_epsilon: float = opt(
        0.1, "added to the variances of ZCA, in units of their mean", gt=0, when="preprocess=zca|gcn_zca"
    )
    sampler: Literal["shuffled", "balanced"] = opt(
        "shuffled",
        "of an epoch: every training example once, or as many draws, with repetition, each class equally often",
    )
    mixup: float | None = opt(
        None, "alpha of Beta(alpha, alpha), from which a step draws the share in which pairs of examples and their labels are "
        "mixed; null: not mixed", gt=0, source="Zhang et al. 2018",
    )  # fmt: skip
    cutmix: float | None = opt(
        None, "alpha of Beta(alpha, alpha), from which a step draws the share of an image that is kept, the rest being a rectangle "
        "of another image; null: nothing is pasted", gt=0, source="Yun et al. 2019", when=_IMAGES,
    )  # fmt: skip
    mix_probability: float = opt(
        1.0, "share of the steps whose batch is mixed, by data.mixup or data.cutmix", gt=0, le=1
    )
    drop_last: bool = opt(True, "leave out an epoch's last batch where it is smaller")
    download: bool = opt(
        False,
        "fetch a published set that is not there",
        result=False,
        when="kind!=csv|diabetes|npz|image_folder|text|torchvision",
    )
    root: str | None = opt(None, "folder of the data; null: $CREDIT_DATA, else ./data", result=False)
    path: str | None = opt(None, "the file or folder of one's own set", when="kind=npz|image_folder")
    image_size: int | None = opt(None, "pixels of the side of the square that is cut out", ge=1, when=_FOLDER)
    hold: Literal["decoded", "files"] = opt(
        "decoded", "all images in memory, or decoded batch by batch", result=False, when=_FOLDER
    )
    resize: int | None = opt(
        None, "pixels of the shorter side before the centre is cut out; null: image_size", ge=1, when=_FOLDER
    )
    classes: list[str] | None = opt(None, "these class folders alone; null: all", when=_FOLDER)
    alpha: Literal["refuse", "drop", "white", "black"] = opt(
        "refuse", "transparent pixels: drop keeps the stored colour, as torchvision's loader; white and black are put below",
        when=_FOLDER,
    )  # fmt: skip
    name: str | None = opt(None, "which table", when=_TABLE)
    fold: int = opt(0, "which fold is the test part, counted from 0", ge=0, when=_TABLE)
    folds: int = opt(5, "number of folds", ge=2, when=_TABLE)
    fold_seed: int = opt(0, "seed of the folds, the same over the run's seeds", ge=0, le=2**32 - 1, when=_TABLE)
    dimension: int = opt(10, "length of a vector", ge=1, when="kind=ones")
    threshold: float = opt(0.7, "class 1 has a larger share of ones", gt=0, lt=1, when="kind=ones")
    samples: int = opt(2000, "examples of both parts together", ge=1, when="kind=ones")
    step: float = opt(5e-4, "between neighbouring points", gt=0, when="kind=sign_line")
    held_out: int = opt(100, "points of the test part", ge=1, when="kind=sign_line")
    eval_batch_size: int = opt(1000, "examples at a time in evaluations", ge=1, speed=True)


@dataclass(frozen=True)
class NoiseConfig:
    """Wrong training labels: which kind, how many, drawn from which seed."""

    kind: str = opt(
        "none", "how a wrong label is drawn", renamed={"redraw": "this noise is named uniform now: noise=uniform"}
    )
    rate: float = opt(
        0.0, "the rate is a fraction of the labels; 40 % is written noise=0.4, not noise=40", ge=0, lt=1,
        when=f"kind!={'|'.join(RATELESS)}",
    )  # fmt: skip
    seed: int | None = opt(None, "seed of the noise; null: the run's", ge=0, le=LARGEST_SEED, when="kind!=human")

    def __post_init__(self) -> None:
        if self.kind == "none" and self.rate > 0:
            rate = self.rate
            raise UserError(
                f"noise=none with noise.rate={rate:g}: write noise={rate:g}, or a kind: noise=pair_flip noise.rate={rate:g}"
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """How the rule's descent direction changes the weights."""

    kind: str = opt("sgd", "torch.optim's class")
    lr: float = opt(0.05, "learning rate; 0 would change no weight", gt=0, short="lr")
    momentum: float = opt(0.9, "share of the last update that is kept", ge=0, lt=1, when="kind=sgd")
    nesterov: bool = opt(False, "Nesterov's form of momentum", when="kind=sgd;momentum")
    weight_decay: float = opt(
        0.0, "strength; sgd and adam add it to the descent direction, adamw decays apart from it", ge=0
    )
    betas: list[float] = opt([0.9, 0.999], "decay of the two moments", ge=0, lt=1, when="kind=adam|adamw")
    eps: float = opt(1e-8, "added to the root of the second moment", gt=0, when="kind=adam|adamw")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves over the run."""

    kind: str = opt("cosine", "the curve")
    final_lr: float = opt(0.0, "where the cosine ends", ge=0, when="kind=cosine|warmup_cosine")
    warmup_epochs: float = opt(0.0, "epochs of the line up to optimizer.lr", ge=0, when="kind=warmup_cosine")
    initial_lr: float = opt(0.0, "where the line begins", ge=0, when="kind=warmup_cosine")
    decay_epochs: float | None = opt(
        None, "end of the cosine, in epochs from the run's start; null: the run's end", gt=0, when="kind=warmup_cosine"
    )
    milestones: list[float] = opt([], "when the rate is multiplied by gamma, in units", gt=0, when="kind=step")
    unit: Literal["epochs", "steps"] = opt("epochs", "of the milestones", when="kind=step")
    gamma: float = opt(0.1, "factor at each milestone", gt=0, when="kind=step")


@dataclass(frozen=True)
class TrainerConfig:
    """How long, where, how exactly, and what is measured on the way."""

    epochs: float | None = opt(20.0, "length of the run; exactly one of epochs and steps", gt=0, short="e")
    steps: int | None = opt(None, "length of the run in steps", ge=1, short="n")
    device: str = opt("auto", "auto, cpu, cuda, or cuda:0 (the number of the GPU)", speed=True)
    warm_rule: str | None = opt(None, "name of the rule that makes the first warm_steps steps; null: the run's own")
    warm_steps: int | None = opt(None, "steps of warm_rule", ge=1)
    init_from: str | None = opt(
        None, "a finished run, its folder or its name under runs/: this one begins with its last weights, its rule's and its "
        "optimizer's state; null: begin anew",
    )  # fmt: skip
    init_schedule: Literal["restart", "continue"] = opt(
        "restart", "restart: steps and schedule begin anew; continue: they go on where init_from ended, and epochs (or steps) "
        "counts both runs", when="init_from",
    )  # fmt: skip
    adversarial_epsilon: float | None = opt(
        None, "size of the adversarial step of training examples, epsilon times the sign of the gradient of the rule's loss, in "
        "units of the network's input (which data.normalize scales); null: examples as they are", gt=0, symbol="epsilon",
        short="fgsm", source="Goodfellow et al. 2015",
    )  # fmt: skip
    adversarial_share: float = opt(
        1.0, "share of a batch's samples that are moved", gt=0, le=1, when="adversarial_epsilon"
    )
    compile: bool = opt(False, "compile steps by torch.compile", speed=True)
    precision: Literal["float32", "float64", "bf16"] = opt("float32", "of networks; bf16: of the products with weights")
    accumulate: int = opt(
        1, "pieces that each batch is computed in, one after another, in the memory of one; the result is the same to rounding, "
        "but for BatchNorm's statistics, which are each piece's", ge=1,
    )  # fmt: skip
    sync_batchnorm: bool = opt(
        True, "BatchNorm's statistics under torchrun are the whole batch's; false: those of each process's own share"
    )
    eval_every: float = opt(1.0, "epochs between evaluations; 0.5: twice in each", gt=0)
    ema: float | None = opt(
        None, "decay of averaged weights, which are evaluated in place of the trained ones; null: none", ge=0, lt=1
    )
    bn_batches: int = opt(
        0, "training batches from which evaluations take BatchNorm's statistics anew; 0: the running ones", ge=0
    )
    stop_when: Literal["never", "collapsed", "no_gain"] = opt(
        "never", "give up a run whose validation accuracy has collapsed, or has no gain for trainer.patience epochs"
    )
    patience: float = opt(10.0, "epochs without a better validation accuracy", gt=0, when="stop_when=no_gain")
    collapse_share: float = opt(
        0.5, "share of its best accuracy below which a run has collapsed", gt=0, le=1, when="stop_when=collapsed"
    )
    collapse_after: float = opt(5.0, "epochs before the first look", ge=0, when="stop_when=collapsed")
    report: list[str] = opt([], "further numbers of evaluations", choices=("per_class",))
    measure: list[str] = opt([], "diagnostics, the package's or your own", choices=lambda: registry.names("diagnostic"))
    measure_every: float = opt(1.0, "epochs between measured steps; the run's last step is measured too", gt=0)
    measure_first: int = opt(0, "steps at the run's beginning that are measured each", ge=0, when="measure")
    fgsm_epsilon: list[float] = opt(
        [0.01], "sizes of the step of the diagnostic fgsm, in units of the network's input", gt=0, when="measure=fgsm"
    )
    checkpoint_every: int = opt(1, "epochs between checkpoints", ge=1, result=False)
    threads: int | None = opt(
        None,
        "CPU threads; null: one for a small network, by its arithmetic (credit.training.threads)",
        ge=1,
        speed=True,
    )
    replicate: Literal["auto", "map", "processes"] = opt(
        "auto", "replicas: in one pass, a process each, or the faster of the two, measured", result=False
    )
    progress: bool = opt(True, "show a bar", result=False)


@dataclass(frozen=True)
class LoggerConfig:
    """Mirrors of the metrics file; none of them can change a result."""

    kind: str = opt("files", "where metrics go beside the run's folder", was="wandb")
    project: str = opt("credit", "the project there", when="kind=wandb")
    mode: Literal["auto", "online", "offline"] = opt(
        "auto", "auto: online when logged in, else offline", when="kind=wandb"
    )
    tags: list[str] = opt([], "labels of the run there", when="kind=wandb")


@dataclass(frozen=True)
class TopConfig:
    """Options of the run itself, outside all groups."""

    seed: int = opt(0, "of weights, batches, noise and the rule's own randomness", ge=0, le=LARGEST_SEED)
    replicas: int | Literal["auto"] = opt(
        1, "how many seeds to train, from seed on; auto: the seeds that a sweep has", ge=1
    )
    rerun: bool | Literal["changed"] = opt(
        False, "start anew what is there already; changed: where the code or the data changed since"
    )
    resume: Literal["same", "anyway"] = opt(
        "same", "an unfinished run goes on with the code it was begun with; anyway: with changed code too"
    )


@dataclass
class RunConfig:
    """One run. `rule` and `arch` are mappings with `kind` and that kind's own options (`rule` also has `name`)."""

    rule: dict[str, Any]
    arch: dict[str, Any]
    data: DataConfig = field(default_factory=DataConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = 0
    replicas: int | str = 1
    rerun: bool | str = False
    resume: str = "same"

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain nested dicts and lists, ready for JSON; `credit.core.config.check` reads it back."""
        return asdict(self)


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "noise": NoiseConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
}
"""Class of each group whose options are fixed."""

LENGTHS = ("epochs", "steps")
"""Options of `trainer` of which a run has exactly one."""


def text_options(group: str) -> set[str]:
    """Return the options of a group that take a text, which a number in it does not make a number."""
    return (
        {name for name, one in of_class(SECTIONS[group]).items() if one.hint in (str, str | None)}
        if group in SECTIONS
        else set()
    )
