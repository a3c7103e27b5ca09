"""The stages in their order, each with the record of its parameters."""

from fgvc_utils.answers.params import EnsembleParams, SubmitParams
from fgvc_utils.cleaning.params import CrossParams, LowQualityParams, NoiseParams
from fgvc_utils.contest.config import Shared
from fgvc_utils.training.params import DistillParams, TrainParams

STAGES: dict[str, type[Shared]] = {
    "01_noise": NoiseParams,
    "02_coarse": CrossParams,
    "03_fine": CrossParams,
    "04_lowq": LowQualityParams,
    "10_train": TrainParams,
    "20_distill": DistillParams,
    "30_ensemble": EnsembleParams,
    "40_submit": SubmitParams,
}


# The cleaning stages after the first → the stage whose table each reads.
TABLE_BEFORE = {"02_coarse": "01_noise", "03_fine": "02_coarse", "04_lowq": "03_fine"}
