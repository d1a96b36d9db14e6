"""Runs with Lightning have the bits of a plain loop, with clipping, mixed precision, checkpoints and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from rose_torch import Rose
from tests.adapters.refusals import raises
from tests.frameworks.training import NOT_INSTALLED, Regression, assert_same_weights, batches, plain_loop

lightning = pytest.importorskip("lightning.pytorch", reason=NOT_INSTALLED)
pytestmark = [
    # Lightning uses a deprecated function of torch
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning:lightning.pytorch"),
]

STEPS, ACCUMULATED, LR, CLIP = 6, 2, 0.01, 0.1

PRECISIONS = {
    "32-true": (torch.float32, None),
    "bf16-mixed": (torch.float32, torch.bfloat16),
    "bf16-true": (torch.bfloat16, None),
}
precisions = pytest.mark.parametrize("precision", PRECISIONS)


class Module(lightning.LightningModule):
    """The regression as a LightningModule, with its optimizer and its schedule."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = Regression()

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        return self.network(*batch)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the schedule."""
        optimizer = Rose(self.parameters(), lr=LR, sr_seed=3)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": CosineAnnealingLR(optimizer, STEPS), "interval": "step"},
        }


def loader(given: list[Any]) -> DataLoader[Any]:
    return DataLoader(given, batch_size=None)  # type: ignore[arg-type]


def trainer(folder: Path, precision: str | None, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "precision": precision,
        "max_epochs": 1,
        "accumulate_grad_batches": ACCUMULATED,
        "gradient_clip_val": CLIP,
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "logger": False,
        "log_every_n_steps": 1,
    }
    return lightning.Trainer(**(settings | options))


def expected(precision: str, given: list[Any]) -> Regression:
    """Return the network after a plain loop."""
    dtype, autocast = PRECISIONS[precision]
    network = Module().network.to(dtype)
    optimizer = Rose(network.parameters(), lr=LR, sr_seed=3)
    plain_loop(
        network,
        optimizer,
        [given[i : i + ACCUMULATED] for i in range(0, len(given), ACCUMULATED)],
        lambda network, batch: network(*batch) / ACCUMULATED,
        schedule=CosineAnnealingLR(optimizer, STEPS),
        clip=CLIP,
        autocast=autocast,
    )
    return network


@precisions
def test_a_run_has_the_bits_of_a_plain_loop(precision: str, tmp_path: Path) -> None:
    module, given = Module(), batches(STEPS * ACCUMULATED, PRECISIONS[precision][0])
    trainer(tmp_path, precision).fit(module, loader(given))
    assert_same_weights(module.network, expected(precision, given))


@precisions
def test_a_run_resumed_from_a_checkpoint_has_the_bits_of_a_plain_loop(precision: str, tmp_path: Path) -> None:
    half = batches(STEPS // 2 * ACCUMULATED, PRECISIONS[precision][0])
    first = trainer(tmp_path, precision)
    first.fit(Module(), loader(half))
    first.save_checkpoint(tmp_path / "first.ckpt")

    module = Module()
    trainer(tmp_path, precision, max_epochs=2).fit(module, loader(half), ckpt_path=tmp_path / "first.ckpt")
    assert_same_weights(module.network, expected(precision, 2 * half))


def test_gradients_are_clipped_with_a_gradient_scaler(tmp_path: Path) -> None:
    """Lightning raises here for optimizers that unscale gradients themselves."""
    module, given = Module(), batches(STEPS * ACCUMULATED)
    plugin = lightning.plugins.MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    run = trainer(tmp_path, None, plugins=[plugin])
    run.fit(module, loader(given))
    assert run.global_step == STEPS
    assert not hasattr(run.optimizers[0], "_step_supports_amp_scaling")
    network = Module().network
    optimizer = Rose(network.parameters(), lr=LR, sr_seed=3)
    schedule, scaler = CosineAnnealingLR(optimizer, STEPS), torch.amp.GradScaler("cpu")
    for first in range(0, len(given), ACCUMULATED):
        optimizer.zero_grad()
        for batch in given[first : first + ACCUMULATED]:
            with torch.autocast("cpu", torch.float16):
                loss = network(*batch) / ACCUMULATED
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    assert_same_weights(module.network, network)


class Recorder(lightning.loggers.logger.DummyLogger):
    """A logger that records all metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Record the metrics of a step."""
        self.logged.append((step, metrics))


def test_the_callback_logs_a_diagnosis_every_n_steps_and_changes_nothing(tmp_path: Path) -> None:
    from rose_torch.callbacks.lightning import DiagnosisCallback

    module, recorder, given = Module(), Recorder(), batches(STEPS * ACCUMULATED)
    callback = DiagnosisCallback(every_n_steps=4)
    trainer(tmp_path, "bf16-mixed", logger=recorder, callbacks=[callback]).fit(module, loader(given))
    logged = [(step, metrics) for step, metrics in recorder.logged if any("rose/" in name for name in metrics)]
    assert [step for step, _ in logged] == [0, 4]
    names = {name for name, _ in module.named_parameters()}
    for _, metrics in logged:
        assert {name.split("/")[1] for name in metrics} == names
        assert 0.0 < metrics["rose/network.layers.0.weight/trust"] <= 1.0
        assert metrics["rose/network.layers.0.weight/relative_update"] > 0.0
    assert_same_weights(module.network, expected("bf16-mixed", given))


def test_an_invalid_number_of_steps_raises() -> None:
    from rose_torch.callbacks.lightning import DiagnosisCallback

    with raises(ValueError, "every_n_steps must be an integer >= 1, got 0"):
        DiagnosisCallback(every_n_steps=0)
    with raises(TypeError, "every_n_steps must be an integer >= 1, got 2.5"):
        DiagnosisCallback(every_n_steps=2.5)
