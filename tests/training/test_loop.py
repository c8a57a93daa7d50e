"""The loop against loops written by hand, and what it promises about stopping, averaging and state."""

from __future__ import annotations

import math

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import confusion_matrix

from runner.config import Goal
from runner.errors import ConfigError, Diverged
from runner.metrics import METRICS
from runner.metrics.names import with_k
from runner.training import losses, schedules, seeding
from runner.training.evaluation import evaluate
from runner.training.loop import fit, gain, train_step
from runner.training.state import Ending
from runner.worker import experiment

DATA = ["data=synthetic", "data.train_images=44", "data.test_images=21", "data.batch_size=16", "data.eval_batch_size=8"]
LINEAR = ["model=custom", "model.target=tests.samples:linear_network"]


class Witness:
    """Keeps what the loop says; asks it to stop after some steps."""

    def __init__(self, stop_after=None):
        self.logs, self.evaluations, self.checkpoints, self.stop_after = [], [], [], stop_after

    def logged(self, progress, values):
        self.logs.append((progress.step, values))

    def evaluated(self, progress, evaluation, better):
        self.evaluations.append((progress.step, evaluation.values, better))

    def checkpoint(self, progress, better):
        self.checkpoints.append((progress.step, better))
        self.step = progress.step

    def stepped(self):
        pass

    def stopping(self):
        return self.stop_after is not None and len(self.logs) >= self.stop_after


def built(config_of, *overrides, network=LINEAR):
    return experiment.build(config_of(*DATA, *network, "schedule.warmup_epochs=0", "train.log_every=1", *overrides))


def weights(run):
    return {name: value.numpy() for name, value in run.training.networks.state_dict().items()}


def by_hand(run, steps, objective, owners, optimizer):
    """The same run as plain Paddle: one optimizer per owner, one backward each, peers detached by hand."""
    networks, config = run.training.networks, run.config
    rates = [
        paddle.optimizer.lr.LambdaDecay(
            config.optimizer.lr,
            lambda step: schedules.factor(
                config.schedule, step, run.training.steps, run.training.loaders.train.batches_per_epoch
            ),
        )
        for _ in owners
    ]
    optimizers = [
        optimizer(rate, [p for name in names for p in networks[name].parameters()])
        for rate, names in zip(rates, owners, strict=True)
    ]
    done = 0
    for epoch in range(100):
        for batch in run.training.loaders.train.epoch(epoch):
            for loss in objective({name: networks[name](batch.images) for name in networks}, batch.labels):
                loss.backward()
            for rate, part in zip(rates, optimizers, strict=True):
                part.step()
                part.clear_grad()
                rate.step()
            done += 1
            if done == steps:
                return


def momentum(rate, parameters):
    return paddle.optimizer.Momentum(rate, momentum=0.9, parameters=parameters)


MOMENTUM = ["optimizer=momentum", "optimizer.weight_decay=0", "optimizer.lr=0.01", "train.max_steps=7"]


def assert_equal_runs(config_of, overrides, objective, owners):
    paddle.seed(0)
    ours, reference = built(config_of, *MOMENTUM, *overrides), built(config_of, *MOMENTUM, *overrides)
    start = weights(ours)
    for name, value in weights(reference).items():
        np.testing.assert_array_equal(value, start[name])
    fit(ours.training, Witness())
    reference.training.networks.train()
    by_hand(reference, 7, objective, owners, momentum)
    assert any(not np.array_equal(value, start[name]) for name, value in weights(ours).items())
    for name, value in weights(reference).items():
        np.testing.assert_allclose(weights(ours)[name], value, rtol=1e-5, atol=1e-6)


def test_cls_follows_a_hand_written_loop(config_of):
    assert_equal_runs(config_of, [], lambda logits, labels: [F.cross_entropy(logits["student"], labels)], [["student"]])


def test_cls_distill_follows_a_hand_written_loop(config_of):
    def objective(logits, labels):
        a, b = logits["student"], logits["student1"]
        hard = F.cross_entropy(a, labels) + F.cross_entropy(b, labels)
        return [hard + losses.kl_divergence(a, b.detach()) + losses.kl_divergence(b, a.detach())]

    assert_equal_runs(config_of, ["mode=cls_distill"], objective, [["student", "student1"]])


def test_multiopt_follows_two_hand_written_loops_step_by_step(config_of):
    def objective(logits, labels):
        a, b = logits["student"], logits["student1"]
        return [
            F.cross_entropy(a, labels) + losses.kl_divergence(a, b.detach()),
            F.cross_entropy(b, labels) + losses.kl_divergence(b, a.detach()),
        ]

    assert_equal_runs(config_of, ["mode=cls_distill_multiopt"], objective, [["student"], ["student1"]])


def test_cls_teacher_follows_a_hand_written_loop(config_of, tmp_path):
    teacher = built(config_of, "train.seed=9").training.networks["student"]
    save_file({name: value.numpy() for name, value in teacher.state_dict().items()}, tmp_path / "teacher.safetensors")

    def objective(logits, labels):
        soft = losses.kl_divergence(logits["student"], logits["teacher"].detach(), 2.0)
        return [0.75 * F.cross_entropy(logits["student"], labels) + 0.25 * 4.0 * soft]

    overrides = [
        "mode=cls_teacher",
        f"mode.teacher_from={tmp_path / 'teacher.safetensors'}",
        "mimic.alpha=0.25",
        "mimic.temperature=2",
    ]
    assert_equal_runs(config_of, overrides, objective, [["student"]])


def test_a_mobilenet_with_dropout_has_the_losses_of_a_hand_written_loop_at_every_step(config_of):
    small = ["model=mobilenet_v3_small_x0_35"]
    ours, reference = (built(config_of, *MOMENTUM, "train.max_steps=4", network=small) for _ in range(2))
    witness, expected = Witness(), []
    seeding.seed(5)
    fit(ours.training, witness)
    seeding.seed(5)
    reference.training.networks.train()

    def objective(logits, labels):
        loss = F.cross_entropy(logits["student"], labels)
        expected.append(float(loss))
        return [loss]

    by_hand(reference, 4, objective, [["student"]], momentum)
    assert [values["train/loss"] for _, values in witness.logs] == pytest.approx(expected, rel=1e-4)


def test_after_a_step_every_gradient_is_cleared(config_of):
    for mode in ("cls", "cls_distill", "cls_distill_multiopt"):
        run = built(config_of, f"mode={mode}")
        train_step(run.training, next(run.training.loaders.train.epoch(0)))
        assert all(p.grad is None for p in run.training.networks.parameters())


def test_computing_a_batch_in_parts_gives_the_step_of_the_whole_batch(config_of):
    runs = [built(config_of, *MOMENTUM, f"train.accumulate={parts}") for parts in (1, 3)]
    for run in runs:
        fit(run.training, Witness())
    for name, value in weights(runs[0]).items():
        np.testing.assert_allclose(weights(runs[1])[name], value, rtol=1e-4, atol=1e-6)


def test_the_last_learning_rate_is_the_end_of_the_schedule(config_of):
    witness = Witness()
    run = built(config_of, "train.epochs=3", "schedule.end_factor=0.25", "optimizer.lr=0.5")
    fit(run.training, witness)
    assert witness.logs[-1][1]["train/lr"] == pytest.approx(0.125, abs=1e-12)
    assert witness.logs[-1][0] == run.training.steps


def test_multiopt_may_have_another_optimizer_and_schedule_for_the_peer(config_of):
    run = built(
        config_of, "mode=cls_distill_multiopt", "optimizer=momentum", "optimizer@mode.peer_optimizer=adamw",
        "schedule@mode.peer_schedule=constant",
    )  # fmt: skip
    kinds = [type(part.optimizer).__name__ for part in run.training.optimizations]
    assert kinds == ["Momentum", "AdamW"]
    witness = Witness()
    fit(run.training, witness)
    assert witness.logs[-1][1]["train/lr/student1"] == pytest.approx(0.004)


def test_every_term_is_logged(config_of):
    witness = Witness()
    fit(built(config_of, "mode=cls_distill", "train.max_steps=1").training, witness)
    values = witness.logs[0][1]
    terms = [value for name, value in values.items() if name.startswith("train/loss/")]
    assert len(terms) == 4
    assert values["train/loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_epoch_and_term(config_of):
    witness = Witness()
    run = built(config_of, "loss=custom", "loss.target=tests.samples:explode_at_third_step", "train.log_every=5")
    with pytest.raises(Diverged) as stopped:
        fit(run.training, witness)
    assert "'ce/student' is not finite at step 3 of epoch 1" in str(stopped.value)
    assert witness.checkpoints == []


def test_early_stopping_waits_for_patience_evaluations(config_of):
    witness = Witness()
    run = built(config_of, "train.patience=2", "train.min_delta=2", "train.epochs=9")
    assert fit(run.training, witness) is Ending.early
    assert len(witness.evaluations) == 3


def test_of_equal_evaluations_the_later_weights_are_the_best(config_of):
    witness = Witness()
    run = built(config_of, "train.epochs=3", "optimizer=sgd", "optimizer.lr=1e-12")
    fit(run.training, witness)
    assert [better for _, _, better in witness.evaluations] == [True, True, True]
    assert run.training.progress.best_step == run.training.steps


@pytest.mark.parametrize(
    ("value", "best", "goal", "expected"),
    [(0.5, 0.25, Goal.max, 0.25), (0.5, 0.25, Goal.min, -0.25), (0.5, None, Goal.min, math.inf)],
)
def test_the_goal_says_which_direction_is_better(value, best, goal, expected):
    assert gain(value, best, goal) == expected


def test_a_metric_that_is_not_a_number_is_never_better():
    assert gain(math.nan, None, Goal.max) < 0


def test_patience_without_a_validation_split_is_refused(config_of):
    with pytest.raises(ConfigError, match="data.val_fraction"):
        built(config_of, "train.patience=2", "data.val_fraction=0")


def test_the_last_epoch_is_evaluated_whatever_the_interval(config_of):
    witness = Witness()
    run = built(config_of, "train.eval_every=2", "train.epochs=3")
    fit(run.training, witness)
    per_epoch = run.training.loaders.train.batches_per_epoch
    assert [step for step, *_ in witness.evaluations] == [2 * per_epoch, 3 * per_epoch]
    evaluated = {step for step, *_ in witness.evaluations}
    assert all(step in evaluated for step, better in witness.checkpoints if better)


def test_evaluations_come_within_epochs_where_steps_are_counted(config_of):
    witness = Witness()
    run = built(config_of, "train.eval_every_steps=2", "train.max_steps=7", "checkpoint.every_epochs=9")
    per_epoch = run.training.loaders.train.batches_per_epoch
    assert per_epoch == 3
    assert run.training.validations_left == 4
    fit(run.training, witness)
    assert [step for step, *_ in witness.evaluations] == [2, 4, 6, 7]
    kept = [step for step, _, better in witness.evaluations if better or step == 7]
    assert [step for step, _ in witness.checkpoints] == kept
    assert [step for step, _ in witness.logs] == list(range(1, 8))


def test_evaluations_within_epochs_change_nothing_of_training(config_of):
    small = ["model=mobilenet_v3_small_x0_35"]
    runs = [built(config_of, *MOMENTUM, f"train.eval_every_steps={every}", network=small) for every in ("null", 1)]
    for run in runs:
        seeding.seed(5)
        fit(run.training, Witness())
    for name, value in weights(runs[0]).items():
        np.testing.assert_array_equal(weights(runs[1])[name], value)


def test_patience_counts_evaluations_within_epochs(config_of):
    witness = Witness()
    run = built(config_of, "train.patience=2", "train.min_delta=2", "train.eval_every_steps=1", "train.epochs=9")
    assert fit(run.training, witness) is Ending.early
    assert [step for step, *_ in witness.evaluations] == [1, 2, 3]


def test_plateau_lowers_the_rate_of_the_step_behind_the_validation(config_of):
    witness = Witness()
    plateau = ["schedule=plateau", "schedule.patience=2", "schedule.min_delta=2", "optimizer.lr=1e-3"]
    options = [*plateau, "train.epochs=6", "train.eval_every_steps=1", "train.log_every=1"]
    run = experiment.build(config_of(*DATA, *LINEAR, *options))
    fit(run.training, witness)
    rates = [values["train/lr"] for _, values in witness.logs]
    assert rates[:8] == pytest.approx([1e-3] * 3 + [1e-4] * 2 + [1e-5] * 2 + [1e-6])


@pytest.mark.parametrize("override", ["schedule=plateau", "train.patience=2", "train.eval_every_steps=5"])
def test_what_follows_validations_is_refused_without_a_validation_split(config_of, override):
    with pytest.raises(ConfigError, match=rf"{override.partition('=')[0]}.*data\.val_fraction"):
        experiment.build(config_of(*DATA, *LINEAR, override, "data.val_fraction=0"))


def test_the_last_steps_are_logged_whatever_the_interval(config_of):
    witness = Witness()
    fit(built(config_of, "train.max_steps=6", "train.log_every=50").training, witness)
    assert [step for step, _ in witness.logs] == [6]


def test_the_last_reading_is_of_as_many_steps_as_the_others(config_of):
    every, sparse = Witness(), Witness()
    fit(built(config_of, "train.max_steps=7").training, every)
    fit(built(config_of, "train.max_steps=7", "train.log_every=3").training, sparse)
    losses = [values["train/loss"] for _, values in every.logs]
    assert [step for step, _ in sparse.logs] == [3, 6, 7]
    expected = [np.mean(losses[:3]), np.mean(losses[3:6]), np.mean(losses[4:7])]
    np.testing.assert_allclose([values["train/loss"] for _, values in sparse.logs], expected, rtol=1e-6)


def test_a_request_to_stop_ends_after_the_step_with_a_checkpoint(config_of):
    witness = Witness(stop_after=2)
    assert fit(built(config_of).training, witness) is Ending.interrupted
    assert witness.checkpoints == [(2, False)]


def test_a_request_to_stop_within_an_evaluation_ends_at_once_and_the_evaluation_is_made_again(config_of):
    class Impatient(Witness):
        """Asks to stop at the second batch of the first evaluation."""

        asked = 0

        def stopping(self):
            self.asked += 1
            return self.asked == len(self.logs) + 2

    options = ["data.val_fraction=0.5", "data.eval_batch_size=4", "train.epochs=2", "train.ema=0.5"]
    interrupted, whole = built(config_of, *options), built(config_of, *options)
    impatient, patient = Impatient(), Witness()
    steps = interrupted.training.loaders.train.batches_per_epoch
    assert fit(interrupted.training, impatient) is Ending.interrupted
    assert impatient.checkpoints == [(steps, False)]
    assert impatient.evaluations == []
    rest = Witness()
    assert fit(interrupted.training, rest) is Ending.complete
    assert fit(whole.training, patient) is Ending.complete
    assert rest.evaluations == patient.evaluations
    assert rest.checkpoints == patient.checkpoints
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(interrupted)[name], value)


@pytest.mark.parametrize("warmup", ["false", "true"])
def test_the_moving_average_is_what_is_evaluated_and_the_weights_go_on_unaveraged(config_of, warmup):
    run = built(config_of, "train.ema=0.15", f"train.ema_warmup={warmup}", *MOMENTUM)
    training = run.training
    average = {name: value.numpy() for name, value in training.ema.averages.items()}
    # (1 + t) / (10 + t) is 1/10, 2/11, 3/12.
    decays = (0.1 if warmup == "true" else 0.15, 0.15, 0.15)
    for decay, batch in zip(decays, training.loaders.train.epoch(0), strict=True):
        train_step(training, batch)
        training.progress.step += 1
        for name, value in weights(run).items():
            average[name] = decay * average[name] + (1 - decay) * value
    for name, value in training.ema.averages.items():
        np.testing.assert_allclose(value.numpy(), average[name], rtol=1e-5, atol=1e-7)
    own = weights(run)
    with training.ema.applied():
        assert all(np.allclose(value, average[name], atol=1e-6) for name, value in weights(run).items())
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, own[name])


@pytest.mark.parametrize("batch_size", [1, 4, 8, 21, 50])
def test_evaluation_counts_every_image_once_for_any_batch_size(config_of, batch_size):
    run = built(config_of, f"data.eval_batch_size={batch_size}")
    training = run.training
    evaluation = evaluate(training.networks, training.loaders.test, training.precision, training.k, details=True)
    assert evaluation.count == 21
    assert sorted(evaluation.predictions["student"].indices) == list(range(21))
    exact = evaluation.predictions["student"]
    assert evaluation.values["student/top1"] == pytest.approx((exact.classes == exact.labels).mean())


@pytest.mark.parametrize("mode", ["cls", "cls_distill"])
def test_evaluation_has_every_metric_of_every_network(config_of, mode):
    training = built(config_of, f"mode={mode}", "train.topk=3").training
    found = evaluate(training.networks, training.loaders.test, training.precision, training.k, details=True)
    names = {metric.name for metric in with_k(METRICS, 3)}
    assert set(found.values) == {f"{network}/{name}" for network in training.networks.trained for name in names}
    for name, seen in found.predictions.items():
        expected = confusion_matrix(seen.labels, seen.classes, labels=range(len(training.loaders.classes)))
        np.testing.assert_array_equal(found.confusions[name], expected)


@pytest.mark.parametrize(
    "monitor", ["val/macro_f1", "val/student/balanced_accuracy", "val/loss", "val/top5", "val/roc_auc"]
)
def test_whatever_is_monitored_decides_in_its_own_direction(config_of, monitor):
    witness = Witness()
    run = built(config_of, "train.epochs=4", "optimizer=sgd", "optimizer.lr=0.3", f"train.monitor={monitor}")
    fit(run.training, witness)
    values = [values[f"student/{monitor.rpartition('/')[2]}"] for _, values, _ in witness.evaluations]
    best, better = None, []
    for value in values:
        better.append(best is None or (value <= best if "loss" in monitor else value >= best))
        best = value if better[-1] else best
    assert [said for _, _, said in witness.evaluations] == better
    assert run.training.progress.best == best == (min(values) if "loss" in monitor else max(values))


def test_early_stopping_waits_for_the_monitored_metric_of_ones_own(config_of):
    witness = Witness()
    own = "+train.metrics={constant:{target:tests.samples:always,goal:min,kwargs:{value:2}}}"
    run = built(config_of, own, "train.monitor=val/constant", "train.patience=2", "train.epochs=9")
    assert fit(run.training, witness) is Ending.early
    assert [values["student/constant"] for _, values, _ in witness.evaluations] == [2.0] * 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests.samples:alwyas", "Did you mean 'always'"),
        ("tests.nowhere:f", "there is no module 'tests.nowhere'"),
        ("tests.samples:not_a_number", "returned a str, not a number"),
        ("tests.samples:always", "raised TypeError: always() missing 1 required positional argument"),
    ],
)
def test_a_metric_of_ones_own_that_fails_is_refused_before_training(config_of, target, message):
    with pytest.raises(ConfigError) as refused:
        built(config_of, f"+train.metrics={{own:{{target:{target},goal:max}}}}")
    assert message in str(refused.value)


def test_a_metric_of_ones_own_sees_the_confusion_matrix_and_changes_nothing_of_it(config_of):
    own = "+train.metrics={greedy:{target:tests.samples:greedy,goal:max}}"
    training = built(config_of, own).training
    found = evaluate(training.networks, training.loaders.test, training.precision, training.k, metrics=training.metrics)
    assert found.values["student/greedy"] == 21
    assert found.confusions["student"].sum() == found.count == 21


def test_a_top_k_that_the_data_has_not_enough_classes_for_is_refused_with_those_there_are(config_of):
    # Among all three classes every image has its own.
    with pytest.raises(ConfigError, match="Did you mean 'val/student/top[12]'.*val/student/top2"):
        built(config_of, "data.classes=3", "train.monitor=val/top5")


@pytest.mark.parametrize("mode", ["cls", "cls_distill"])
def test_evaluation_leaves_weights_buffers_modes_and_random_state_bit_identical(config_of, mode):
    run = built(config_of, f"mode={mode}", network=["model=mobilenet_v3_small_x0_35"])
    training = run.training
    training.networks.train()
    before, random_state = weights(run), seeding.state()
    evaluate(training.networks, training.loaders.test, training.precision, training.k)
    assert all(layer.training for layer in training.networks.sublayers())
    assert seeding.state() == random_state
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(("words", "names"), [([], {"top1"}), (["train.monitor=val/top2"], {"top1", "top2"})])
def test_top_k_of_few_classes_is_computed_where_it_is_monitored(config_of, words, names):
    training = built(config_of, "data.classes=3", "train.topk=5", *words).training
    found = evaluate(training.networks, training.loaders.test, training.precision, training.k)
    assert {name.partition("/")[2] for name in found.values if "/top" in name} == names


def test_equal_seeds_give_equal_runs_and_other_seeds_other_ones(config_of):
    logs = []
    for seed in (3, 3, 4):
        witness = Witness()
        run = built(config_of, f"train.seed={seed}", "train.max_steps=3", network=["model=mobilenet_v3_small_x0_35"])
        fit(run.training, witness)
        logs.append([values["train/loss"] for _, values in witness.logs])
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize("mode", [["mode=cls"], ["mode=cls_distill", "mimic=dml"]])
def test_mixed_pictures_are_learnt_with_soft_labels_and_a_peer_sees_the_very_same(config_of, mode):
    run, twin = (built(config_of, *mode, "augment.mixup=0.4", "augment.cutmix=1") for _ in range(2))
    networks, batch = run.training.networks, next(iter(run.training.loaders.train.epoch(0)))
    assert batch.labels.shape == [16, 10]
    seen = []
    for name in networks:
        networks[name].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].numpy()))
    reading = train_step(run.training, batch)
    assert len(seen) == len(list(networks))
    for images in seen:
        np.testing.assert_array_equal(images, batch.images.numpy())
    logs = F.log_softmax(twin.training.networks["student"](batch.images))
    terms = dict(zip(reading.names, reading.values.tolist(), strict=False))
    assert terms["ce/student"] == pytest.approx(float(-(batch.labels * logs).sum(axis=-1).mean()), rel=1e-5)
    predicted = logs.argmax(axis=-1).numpy()
    assert float(reading.values[-2]) == pytest.approx(batch.labels.numpy()[range(16), predicted].sum(), rel=1e-5)


def test_outputs_that_are_not_finite_in_evaluation_alone_end_the_run(config_of):
    run = built(config_of, network=["model=mobilenet_v3_small_x0_35"])
    # Training normalises by each batch's own statistics, so its losses stay finite.
    variance = next(value for name, value in run.training.networks.state_dict().items() if name.endswith("_variance"))
    variance.set_value(paddle.full_like(variance, math.nan))
    with pytest.raises(Diverged, match="'student' are not finite in evaluation: the loss on 21 images is nan"):
        evaluate(run.training.networks, run.training.loaders.test, run.training.precision, 2)


def test_a_monitor_that_the_validation_split_leaves_undefined_is_refused_before_training(config_of):
    data = ["data=custom", "data.target=tests.samples:validated_on_one_class", "data.image_size=32", *LINEAR]
    with pytest.raises(ConfigError, match=r"train.monitor=val/roc_auc: roc_auc is not defined .* are of dog\."):
        experiment.build(config_of(*data, "train.monitor=val/roc_auc"))
    assert experiment.build(config_of(*data, "train.monitor=val/loss")).training.loaders.val
