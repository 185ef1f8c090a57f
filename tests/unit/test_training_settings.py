"""Optimisers, learning rates and what is refused, by themselves."""

from __future__ import annotations

import csv
import itertools

import pytest
import torch


@pytest.fixture
def training(pack):
    return lambda name: pack.submodule(f"training.{name}")


@pytest.fixture
def settings(training):
    def make(options: dict | None = None, **changes):
        module = training("settings")
        return module.TrainingSettings(**{"steps": 100, **changes}, options=module.TrainingOptions(**(options or {})))

    return make


# -- optimisers ---------------------------------------------------------------------------------------------------------

PYTORCH = ("AdamW", "Adam", "RMSprop", "SGD")
# packages of their own
OTHERS = {
    "AdamW 8-bit": "bitsandbytes",
    "Lion": "lion_pytorch",
    "Prodigy": "prodigyopt",
    "AdamW schedule-free": "schedulefree",
}


def optimizer(training, name: str, parameters, learning_rate: float, weight_decay: float):
    if name in OTHERS:
        pytest.importorskip(OTHERS[name], reason=f"needs {OTHERS[name]} (requirements-dev.txt)")
    made = training("optimizers").OPTIMIZERS[name].make(parameters, learning_rate, weight_decay)
    if hasattr(made, "train"):
        made.train()
    return made


@pytest.mark.parametrize("name", [*PYTORCH, *OTHERS])
def test_weight_decay_takes_its_share_whatever_the_gradient(training, name):
    """A LoRA's gradients are small: decay that is added to them would be all that is left, at full speed."""

    def weights(weight_decay: float) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(8192))  # of fewer than 4096 numbers bitsandbytes keeps all bits
        made = optimizer(training, name, [parameter], 1e-2, weight_decay)
        for _ in range(20):
            parameter.grad = torch.full((8192,), -1e-6)
            made.step()
        return parameter.detach()

    lost = weights(0.0) - weights(0.1)
    # at most twenty times a hundredth of a tenth, of weights that have grown to 1.7
    assert (lost >= 0).all()
    assert (lost < 20 * 1e-2 * 0.1 * 2).all()
    # the learning rate of the one begins at a millionth, the other hands on an average
    if name not in ("Prodigy", "AdamW schedule-free"):
        assert (lost > 20 * 1e-2 * 0.1 * 0.7).all()


def test_adamw_is_what_it_was(training):
    """The decay of AdamW is PyTorch's; that of Adam, done here, comes to the same."""

    def weights(make) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(8))
        made = make([parameter])
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            parameter.grad = torch.randn(8, generator=generator)
            made.step()
        return parameter.detach()

    rows = training("optimizers").OPTIMIZERS
    expected = weights(lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1))
    assert torch.equal(weights(lambda parameters: rows["AdamW"].make(parameters, 1e-2, 0.1)), expected)
    torch.testing.assert_close(weights(lambda parameters: rows["Adam"].make(parameters, 1e-2, 0.1)), expected)


def test_a_package_that_is_missing_is_told_before_anything_is_computed(training, settings, monkeypatch):
    module = training("optimizers")
    rows = {**module.OPTIMIZERS, "Lion": module._library("lion-pytorch", "no_such_package", "Lion")}
    monkeypatch.setattr(training("settings"), "OPTIMIZERS", rows)
    monkeypatch.setattr(module, "OPTIMIZERS", rows)
    with pytest.raises(
        training("settings").TrainingFailed, match=r"Lion needs .* not installed.*pip install lion-pytorch"
    ):
        settings(optimizer="Lion")


def test_an_optimizer_that_fails_on_this_machine_is_told_before_anything_is_computed(training, settings, monkeypatch):
    """As those do whose kernels are for other devices."""

    class OnCards(torch.optim.SGD):
        def step(self, closure=None):
            raise NotImplementedError("no kernel for cpu")

    module = training("optimizers")
    row = module.OptimizerKind(module.of_torch(OnCards), package="on-cards", module="torch")
    monkeypatch.setitem(module.OPTIMIZERS, "Lion", row)
    with (
        torch.inference_mode(),
        pytest.raises(
            training("settings").TrainingFailed, match=r"Lion does not work on this machine \(no kernel for cpu\)"
        ),
    ):
        settings(optimizer="Lion")


# -- learning rates -----------------------------------------------------------------------------------------------------


def rates(settings) -> list[float]:
    return [settings.learning_rate_at(step) for step in range(settings.steps)]


def test_the_cosine_ends_at_a_hundredth_in_the_last_step(settings):
    found = rates(settings(learning_rate=0.5, learning_rate_schedule="cosine"))
    assert found[0] == 0.5
    assert found[-1] == pytest.approx(0.005, rel=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(found))
    assert found[33] == pytest.approx(0.5 * (0.01 + 0.99 * 0.75))  # a third of the way: cos 60° = 0.5
    assert rates(settings(steps=1, learning_rate=0.5, learning_rate_schedule="cosine")) == [0.5]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_rises_over_the_warmup(settings, schedule):
    found = rates(settings({"warmup_steps": 4}, learning_rate=0.4, learning_rate_schedule=schedule))
    assert found[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert max(found) == 0.4
    assert found[-1] == pytest.approx(0.4 if schedule == "constant" else 0.004)


# -- what is refused ----------------------------------------------------------------------------------------------------

REFUSED = [
    ({"warmup_steps": 100}, {}, "warmup_steps is 100, but the training has 100 steps"),
    ({}, {"optimizer": "SGD", "learning_rate": 5e-4}, "SGD learns nothing at learning_rate 0.0005.*about 1"),
    ({}, {"optimizer": "Prodigy", "learning_rate": 5e-4}, "Prodigy learns nothing at .*Set learning_rate to 1"),
    ({}, {"optimizer": "AdamW schedule-free", "learning_rate_schedule": "cosine"}, "Set it to constant"),
    ({"ema": 0.9}, {"optimizer": "AdamW schedule-free"}, "Set ema of Training Options to 0"),
    ({}, {"start_percent": 0.5, "end_percent": 0.5}, "no noise levels lie between"),
    ({}, {"batch": 3, "noise_pairs": True}, "even batch"),
]


@pytest.mark.parametrize(("options", "changes", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_settings_that_fail_or_learn_nothing_are_refused(training, settings, options, changes, message):
    with pytest.raises(training("settings").TrainingFailed, match=message):
        settings(options, **changes)


# -- averages, weights, records -----------------------------------------------------------------------------------------


def test_the_moving_average_by_hand(training):
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = training("average").MovingAverage([parameter], decay=0.5)
    expected = torch.zeros(3)
    for step, weights in enumerate((1.0, 5.0, -2.0, 8.0, 3.0), 1):
        average.confirm()
        parameter.data.fill_(weights)
        average.stepped()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
        with average.handed_on():
            torch.testing.assert_close(parameter.detach(), expected)
        assert (parameter == weights).all()


def test_a_step_that_is_undone_is_in_no_average(training):
    parameter = torch.nn.Parameter(torch.ones(3))
    average = training("average").MovingAverage([parameter], decay=0.5)
    parameter.data.fill_(float("inf"))
    average.stepped()
    average.undo()
    average.confirm()
    with average.handed_on():
        assert (parameter == 1).all()


def test_min_snr_weights_by_hand(training):
    sigma = torch.tensor([0.1, 1.0, 10.0])  # SNR 100, 1, 0.01
    weights = training("objectives").min_snr_weights
    torch.testing.assert_close(weights(sigma, 5.0, False), torch.tensor([0.05, 1.0, 1.0]))
    torch.testing.assert_close(weights(sigma, 5.0, True), torch.tensor([5 / 101, 0.5, 0.01 / 1.01]))


def test_ranks_of_layers_by_parts_of_their_names(training):
    low_rank = training("low_rank")
    names = ["up.0.to_q", "up.0.to_v", "down.1.to_q", "down.1.to_v"]
    assert low_rank.ranks_of(names, {"to_q": 2, "up": 8}) == {"up.0.to_q": 2, "down.1.to_q": 2, "up.0.to_v": 8}
    layers = {name: torch.nn.Linear(6, 10) for name in names}
    new = low_rank.new_pairs
    pairs = new(layers, 4, 4.0, 0, torch.device("cpu"), {"up.0.to_q": 2, "up.0.to_v": 0})
    assert {name: (pair.down.shape, pair.up.shape, pair.scale) for name, pair in pairs.items()} == {
        "up.0.to_q": ((2, 6), (10, 2), 1.0),
        "down.1.to_q": ((4, 6), (10, 4), 1.0),
        "down.1.to_v": ((4, 6), (10, 4), 1.0),
    }
    assert new(layers, 4, 6.0, 0, torch.device("cpu"), rslora=True)["up.0.to_q"].scale == 3.0  # 6 / √4
    with pytest.raises(training("settings").TrainingFailed, match=r"says to_k, but no layer .*to_q, to_v"):
        low_rank.ranks_of(names, {"to_k": 2})
    with pytest.raises(training("settings").TrainingFailed, match="leaves no layer"):
        low_rank.ranks_of(names, {"to_q": 0, "to_v": 0})


def test_ranks_as_they_are_written(pack):
    module = pack.submodule("nodes.training_options")
    assert module.ranks_written(" to_v: 32,attn2:8 \n up_blocks.1 : 0,") == {"to_v": 32, "attn2": 8, "up_blocks.1": 0}
    assert module.ranks_written("") == {}
    for wrong in ("to_v", "to_v: many", "to_v: -1", ": 8", "to_v: 513", "to_v = 8"):
        with pytest.raises(module.WrongRanks, match="such as to_v: 32"):
            module.ranks_written(wrong)


@pytest.mark.parametrize("losses", [[0.25], [0.0], [0.5, 0.5], [0.1, 0.3]])
def test_the_hosts_loss_graph_can_be_drawn(training, losses):
    """It divides by the difference between the largest and the smallest loss."""
    drawn = training("record").TrainingRecord(list(losses)).loss_map["loss"]
    assert max(drawn) > min(drawn)
    assert drawn[: len(losses)] == losses
    assert drawn == pytest.approx([*losses, losses[-1]][: len(drawn)])


def test_the_record_as_a_table(training, tmp_path):
    record = training("record").TrainingRecord()
    for step in range(1, 4):
        record.add(float(step), 0.1, 2.0)
    record.validation[2] = 7.0
    record.motion[3] = 33.3
    assert record.told() == "loss 3.0000, smoothed 2.0135, validation 7.0000, motion error 33°"
    record.write_csv(str(tmp_path / "log.csv"))
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert [row["validation_loss"] for row in rows] == ["", "7.0", ""]
    assert [row["motion_error"] for row in rows] == ["", "", "33.3"]
    assert float(rows[0]["smoothed_loss"]) == pytest.approx(1.0)
    assert float(rows[2]["smoothed_loss"]) == pytest.approx((0.98**2 + 0.98 * 2 + 3) / (0.98**2 + 0.98 + 1))
    record.undo()
    assert (record.steps, len(record.smoothed), len(record.norms), record.motion) == (2, 2, 2, {})
