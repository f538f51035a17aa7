from datetime import date, timedelta

import pytest

from workshop import ROOT, containers

every_image = pytest.mark.parametrize(
    "image", [containers.TRAINING, containers.INFERENCE], ids=lambda image: image.scope
)


def days_before(image: containers.Image, days: int) -> date:
    return image.patched_until - timedelta(days=days)


@every_image
def test_a_warning_begins_60_days_before_the_last_patch(image: containers.Image) -> None:
    assert image.warning(days_before(image, 61)) == ""
    assert image.warning(days_before(image, 60)) == "60 days left, then update the workshop"
    assert image.warning(days_before(image, -1)) == "patches have ended, update the workshop"


@every_image
def test_the_command_fails_when_either_image_has_to_be_replaced(
    image: containers.Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in ("TRAINING", "INFERENCE"):
        if getattr(containers, other) != image:
            monkeypatch.setattr(containers, other, containers.Image("other", "1.0", "py312", date.max))
    assert containers.main(days_before(image, 61)) == 0
    assert containers.main(days_before(image, 60)) == 1
    line = f"{image.scope} {image.version}: patched until {image.patched_until}"
    assert f"{line}\n" in capsys.readouterr().out
    assert containers.main(days_before(image, -1)) == 1
    assert f"{line} (patches have ended, " in capsys.readouterr().out


@every_image
def test_the_sdk_lists_the_image_and_none_that_is_newer(image: containers.Image) -> None:
    from sagemaker.core import image_uris

    assert f"tensorflow-{image.scope}:{image.version}-cpu-py312" in image.uri("us-east-1", "ml.m5.xlarge")
    listed = image_uris.config_for_framework("tensorflow")[image.scope]["version_aliases"]
    assert image.version == max(listed, key=lambda version: [int(number) for number in version.split(".")])


def test_the_training_image_has_the_tensorflow_of_local_mode() -> None:
    assert f"\ntensorflow-cpu=={containers.TRAINING.version}." in (ROOT / "requirements.txt").read_text()
