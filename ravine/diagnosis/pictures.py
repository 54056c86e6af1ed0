"""Which experiment of the gallery shows a fault: what `ravine explain CODE --picture` draws."""

from collections.abc import Mapping

CODES_BY_EXPERIMENT: Mapping[str, str] = {
    "activations": "RVN-I15 RVN-I16 RVN-S03 RVN-X07",
    "adam-bias": "RVN-X06",
    "batch-norm-drift": "RVN-L12 RVN-T13 RVN-X15",
    "deep-tanh": "RVN-I14 RVN-T08",
    "dropout-expectation": "RVN-L13 RVN-T12 RVN-X13",
    "early-stopping": "RVN-T05 RVN-T10 RVN-X03 RVN-X20",
    "gradient-paths": "RVN-T03",
    "he-multiplier": "RVN-X10",
    "initial-loss": "RVN-C02 RVN-C03 RVN-I13 RVN-T02",
    "losses": "RVN-H01 RVN-H02 RVN-H05 RVN-I09 RVN-I10 RVN-X08 RVN-X18",
    "mixture-boundaries": "RVN-X14",
    "optimizer-race": "RVN-X05",
    "range-test": "RVN-L19 RVN-N01 RVN-X01 RVN-X02",
    "rates-and-batches": "RVN-T06 RVN-X04",
    "scaling-table": "RVN-L26 RVN-L27 RVN-X11",
    "schedules": "RVN-L14 RVN-L15 RVN-L16 RVN-L18 RVN-T04 RVN-T09 RVN-T14 RVN-X52",
    "transfer": "RVN-L08 RVN-X19",
    "zero-init": "RVN-I04 RVN-I06 RVN-I07 RVN-S01",
}
EXPERIMENTS_BY_CODE: Mapping[str, str] = {
    code: experiment for experiment, codes in CODES_BY_EXPERIMENT.items() for code in codes.split()
}
