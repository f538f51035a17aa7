import re

from metrics import METRIC_DEFINITIONS, Epoch, epoch_line


def test_sagemaker_reads_every_metric_from_the_line_of_an_epoch() -> None:
    row = Epoch(epoch=3, step=66, loss=0.12344, accuracy=1.0, val_loss=12.5, val_accuracy=0.0)
    line = epoch_line(row, seconds=0.5)
    read = {each["Name"]: re.findall(each["Regex"], line) for each in METRIC_DEFINITIONS}
    assert line.startswith("epoch=3 step=66 loss=0.1234 accuracy=1.0000 val_loss=12.5000 val_accuracy=0.0000")
    assert read == {
        "train:loss": ["0.1234"],
        "train:accuracy": ["1.0000"],
        "validation:loss": ["12.5000"],
        "validation:accuracy": ["0.0000"],
    }
