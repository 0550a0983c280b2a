"""Which options names of runs have always said, whatever their value: a record of the past, to which nothing is added.

An option that is not in the table is part of a run's name where it differs from its default. The options here are part of it
in any case, with their default where they are not given, because the names of the runs that there are were made so.
"""

NAMED: dict[str, str] = {
    "data": (
        "kind batch_size limit_train limit_test val_fraction test_fraction split_seed augment crop_padding cutout_size "
        "normalize drop_last path image_size name fold folds fold_seed dimension threshold samples step held_out "
        "eval_batch_size"
    ),
    "noise": "kind rate seed",
    "optimizer": "kind lr momentum nesterov weight_decay betas eps",
    "schedule": "kind final_lr warmup_epochs milestones gamma",
    "trainer": "epochs steps device compile precision eval_every ema bn_batches report measure measure_every",
    "rule.sweep": (
        "clip clip_output reproject clip_norm local_autograd signal gate transport normalizer signal_dropout sparse "
        "label_smoothing margin override inverse_scale inverse_clamp ste_window height width shape low high match_mean "
        "dfa_map"
    ),
    "rule.lfp": (
        "clip clip_output reproject clip_norm local_autograd relevance composite feedback normalizer reduction dropout "
        "batchnorm epsilon alpha beta gamma lower_bound upper_bound sign_only reward_sign"
    ),
    "rule.dual": (
        "clip clip_output reproject clip_norm local_autograd variant alpha beta loss schedule passes nudge damped "
        "power_iterations transport input_robustness pool_first batchnorm"
    ),
    "rule.equilibrium": (
        "clip clip_output reproject clip_norm local_autograd phases free_steps nudged_steps beta clamped gamma loss "
        "ceiling begin transport pool_first batchnorm"
    ),
    "rule.lra": (
        "clip clip_output reproject clip_norm local_autograd beta gamma skip_gap wiring depth inner error_update synapses "
        "error_std error_lr kappa p q loss workers"
    ),
    "rule.target_propagation": (
        "clip clip_output reproject clip_norm local_autograd difference first_target target_step noise_std feedback_loss "
        "feedback_steps feedback_lr synapses loss"
    ),
    "arch.mlp": "widths activation dropout norm",
    "arch.deep_mlp": "width depth activation init",
    "arch.suc": "activation",
    "arch.lenet5": "variant activation pool norm dropout",
    "arch.plain_conv_bn": "widths hidden activation dropout dense_norm",
    "arch.cifar_resnet": "depth width activation",
    "arch.perturbative_resnet": "depth masks layers noise_level distribution stem activation init",
    "arch.vgg16": "norm dense activation dropout",
    "arch.spiking_lenet": "steps beta threshold reset reset_delay surrogate_slope",
    "arch.spiking_mlp": "widths steps beta threshold reset reset_delay surrogate_slope",
    "arch.timm": "name stem pretrained patch_size",
}
"""Options, with spaces between them, by group, or by group and kind of rule and network."""
