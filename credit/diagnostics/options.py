"""Register the package's diagnostics under their names in ``trainer.measure=[...]``. Imports no torch."""

from credit.core.registry import declare

declare(
    "diagnostic",
    {
        "alignment": "credit.diagnostics.alignment:Alignment",
        "descent": "credit.diagnostics.descent:Descent",
        "signs": "credit.diagnostics.signs:Signs",
        "drift": "credit.diagnostics.drift:Drift",
        "magnitudes": "credit.diagnostics.magnitudes:Magnitudes",
        "lipschitz": "credit.diagnostics.lipschitz:Lipschitz",
        "fgsm": "credit.diagnostics.fgsm:Fgsm",
        "inference": "credit.diagnostics.inference:Inference",
        "pruning": "credit.diagnostics.pruning:Pruning",
        "pruning_by_layer": "credit.diagnostics.pruning:PruningByLayer",
        "embedding": "credit.diagnostics.embedding:Embedding",
    },
)
