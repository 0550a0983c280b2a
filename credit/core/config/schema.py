"""What a run is made of: plain typed dataclasses, one per configuration group, no torch.

A configuration reaches the code only as a `RunConfig`, made by `credit.core.config.check`. Names, defaults and meaning are
the command line's: the field `optimizer.lr` is the override ``optimizer.lr=0.1``.
"""

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

GROUPS = ("rule", "arch", "data", "noise", "optimizer", "schedule", "trainer", "logger")
"""Configuration groups that describe a run; `experiment` and `debug` only override values in these."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
"""A number as it is written on the command line."""

NO_RESULT = {"result": False}
"""Metadata of an option that does not decide a run's result, and is no part of its name."""

OPEN_GROUPS = ("rule", "arch")
"""Groups whose options are named by the chosen kind (a registry entry), not by a dataclass."""


@dataclass
class DataConfig:
    """Which examples, how many, and what is done to them before the network sees them."""

    kind: str = "digits"
    batch_size: int = 128
    limit_train: int | None = None  # keep only this many training examples
    limit_test: int | None = None
    val_fraction: float = 0.1  # part of the training set kept for choosing the best epoch
    val_size: int | None = None  # exactly so many instead; None: val_fraction says
    val_split: str = "stratified"  # stratified (drawn, every class in proportion), last (the last images as stored)
    test_fraction: float | None = None  # pool the set's own parts and split them anew; None: the set's own test part
    split_seed: int | None = 0  # splits and limits stay the same over the run's seeds; None: the run's seed
    augment: list[str] = field(default_factory=list)  # of crop, flip, cutout
    crop_padding: int = 4  # pixels
    cutout_size: int = 8  # pixels
    normalize: str = "standard"  # none, unit, standard, imagenet, gcn, zca
    preprocess: str = "none"  # none, gcn, zca, gcn_zca: of whole images, before normalisation and augmentation
    zca_epsilon: float = 0.1  # zca: added to the variances, in units of their mean
    drop_last: bool = True
    download: bool = field(default=False, metadata=NO_RESULT)
    root: str | None = field(default=None, metadata=NO_RESULT)  # None: $CREDIT_DATA, else ./data
    path: str | None = None  # the file or folder of the kinds that read the user's own set
    image_size: int | None = None  # pixels; sets made of image files
    hold: str = field(
        default="decoded", metadata=NO_RESULT
    )  # image_folder: decoded (all images in memory), files (decoded batch by batch)
    resize: int | None = None  # image_folder: pixels of the shorter side before the centre is cut out; None: image_size
    classes: list[str] | None = None  # image_folder: only these of its class folders; None: all
    alpha: str = (
        "refuse"  # image_folder: transparent pixels; refuse, drop (as torchvision's loader), white, black (put on it)
    )
    name: str | None = None  # tabular: which set
    fold: int = 0  # tabular: which fold is the test part, counted from 0
    folds: int = 5  # tabular
    fold_seed: int = 0  # tabular: the folds stay the same over the run's seeds
    dimension: int = 10  # ones: length of a vector
    threshold: float = 0.7  # ones: class 1 has a larger share of ones
    samples: int = 2000  # ones: of both parts together
    step: float = 5e-4  # sign_line: between neighbours
    held_out: int = 100  # sign_line: inputs of the test part
    eval_batch_size: int = field(default=1000, metadata=NO_RESULT)


@dataclass
class NoiseConfig:
    """Wrong training labels: which kind, how many, drawn from which seed."""

    kind: str = "none"  # none, symmetric, redraw, asymmetric, pair_flip
    rate: float = 0.0  # fraction of training labels touched, in [0, 1)
    seed: int | None = None  # None: the run's seed


@dataclass
class OptimizerConfig:
    """How the rule's descent direction changes the weights."""

    kind: str = "sgd"  # sgd, adam, adamw
    lr: float = 0.05
    momentum: float = 0.9  # sgd
    nesterov: bool = False  # sgd
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # adam, adamw
    eps: float = 1e-8  # adam, adamw


@dataclass
class ScheduleConfig:
    """How the learning rate moves over the run."""

    kind: str = "cosine"  # constant, step, cosine, warmup_cosine
    final_lr: float = 0.0  # where cosine ends
    warmup_epochs: float = 0.0  # warmup_cosine
    initial_lr: float = 0.0  # warmup_cosine: where the line begins
    decay_epochs: float | None = None  # warmup_cosine: the cosine's end, from the start; None: the run's
    milestones: list[float] = field(default_factory=list)  # step: when lr is multiplied by gamma, in units
    unit: str = "epochs"  # step: of milestones, epochs or steps
    gamma: float = 0.1  # step


@dataclass
class TrainerConfig:
    """How long, where, how exactly, and what is measured on the way."""

    epochs: float | None = None  # exactly one of epochs and steps
    steps: int | None = None
    device: str = field(default="auto", metadata=NO_RESULT)  # auto, cpu, cuda, cuda:N
    warm_rule: str | None = None  # the rule of the first warm_steps steps, by name; None: the run's from the beginning
    warm_steps: int | None = None
    compile: bool = field(default=False, metadata=NO_RESULT)
    precision: str = "float32"  # float32, float64, bf16
    eval_every: float = 1.0  # epochs; 0.5: twice in each
    ema: float | None = None  # decay of the averaged weights that are evaluated
    bn_batches: int = (
        0  # training batches that BatchNorm's statistics are taken from anew for an evaluation; 0: running
    )
    stop_when: str = "never"  # never, collapsed: validation accuracy is below collapse_share of its best
    collapse_share: float = 0.5
    collapse_after: float = 5.0  # epochs, the only ones in which no run has collapsed
    report: list[str] = field(default_factory=list)  # of per_class
    measure: list[str] = field(default_factory=list)  # diagnostics, of MEASURES or the user's own
    measure_every: float = 1.0  # epochs
    measure_first: int = 0  # steps at the run's beginning that are measured each
    fgsm_epsilon: list[float] = field(default_factory=lambda: [0.01])  # measure=[fgsm]: steps in units of the input
    checkpoint_every: int = field(default=1, metadata=NO_RESULT)  # epochs
    threads: int | None = field(
        default=None, metadata=NO_RESULT
    )  # CPU threads; None: by the arithmetic of the model (credit.training.threads)
    replicate: str = field(
        default="auto", metadata=NO_RESULT
    )  # replicas: map (one pass trains all), processes (one each), auto (the faster, measured)
    progress: bool = field(default=True, metadata=NO_RESULT)


@dataclass
class LoggerConfig:
    """Mirrors of the metrics file; none of them can change a result."""

    wandb: bool = False
    project: str = "credit"
    mode: str = "auto"  # auto (online when logged in, else offline), online, offline
    tags: list[str] = field(default_factory=list)


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
    replicas: int | str = 1  # runs of seeds seed, seed + 1, ...; "auto": the seeds that a sweep has of it
    rerun: bool | str = False  # True: start anew what is there already; "changed": where code or data changed since
    resume: str = (
        "same"  # same (an unfinished run goes on with the code it was begun with), anyway (with changed code too)
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain nested dicts and lists, ready for JSON; `credit.core.config.check` reads it back."""
        return asdict(self)


SECTIONS: dict[str, type] = {
    name: hint for name, hint in get_type_hints(RunConfig).items() if name in GROUPS and name not in OPEN_GROUPS
}
"""Dataclass of each group whose options are fixed."""

LENGTHS = ("epochs", "steps")
"""Options of `trainer` of which a run has exactly one."""

MEASURES = (
    "alignment",
    "descent",
    "drift",
    "embedding",
    "fgsm",
    "inference",
    "lipschitz",
    "magnitudes",
    "pruning",
    "pruning_by_layer",
    "signs",
)
"""Diagnostics of this package: ``credit/diagnostics/<name>.py`` registers each."""

IMAGE_KINDS = ("cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "imagenet32", "mnist", "npz")
"""Data sets of images; `tabular`, `ones` and `sign_line` hold rows of numbers."""

CHOICES: dict[str, tuple[str, ...]] = {
    "data.kind": (*IMAGE_KINDS, "ones", "sign_line", "tabular"),
    "noise.kind": ("none", "symmetric", "redraw", "asymmetric", "pair_flip"),
    "optimizer.kind": ("sgd", "adam", "adamw"),
    "schedule.kind": ("constant", "step", "cosine", "warmup_cosine"),
    "schedule.unit": ("epochs", "steps"),
    "data.val_split": ("stratified", "last"),
    "data.augment": ("crop", "flip", "cutout"),
    "data.normalize": ("none", "unit", "standard", "imagenet", "gcn", "zca"),
    "data.hold": ("decoded", "files"),
    "data.alpha": ("refuse", "drop", "white", "black"),
    "data.preprocess": ("none", "gcn", "zca", "gcn_zca"),
    "trainer.precision": ("float32", "float64", "bf16"),
    "trainer.stop_when": ("never", "collapsed"),
    "trainer.report": ("per_class",),
    "trainer.replicate": ("auto", "map", "processes"),
    "logger.mode": ("auto", "online", "offline"),
    "resume": ("same", "anyway"),
}
"""Words allowed in the fields that take one (or a list) of a fixed set."""


def text_options(group: str) -> set[str]:
    """Return the options of a group that take a text, which a number in it does not make a number."""
    hints = get_type_hints(SECTIONS[group]) if group in SECTIONS else {}
    return {name for name, hint in hints.items() if hint in (str, str | None)}


def option_names(group: str) -> list[str]:
    """Return the option names of a group with a dataclass, in the order they are declared."""
    return [f.name for f in fields(SECTIONS[group])]
