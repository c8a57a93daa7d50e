"""The time that is left is right within a fifth from a tenth of a run on."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.worker.eta import TimeLeft


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def simulate(epochs, per_epoch, log_every, eval_every, step_s, eval_s, save_s, first_s, seed, done=0, guess=0):
    """(part of the run, estimate, seconds that were left) at every reading and validation of a run."""
    clock, noise, steps = Clock(), random.Random(seed), epochs * per_epoch
    evaluations = epochs // eval_every + (epochs % eval_every > 0) - done // per_epoch // eval_every
    left = TimeLeft(steps, evaluations, guess, done, clock)
    clock.wait(first_s)
    said = []
    for step in range(done + 1, steps + 1):
        clock.wait(step_s * noise.uniform(0.7, 1.3))
        if step % log_every == 0:
            left.trained(step)
            said.append((step, left.seconds(), clock.now))
        left.stepped()
        if step % per_epoch == 0:
            epoch = step // per_epoch
            if epoch % eval_every == 0 or epoch == epochs:
                clock.wait(eval_s * noise.uniform(0.9, 1.1))
                left.validated(step)
                said.append((step, left.seconds(), clock.now))
            clock.wait(save_s)
    end = clock.now
    return [((step - done) / (steps - done), estimate, end - now) for step, estimate, now in said]


@settings(max_examples=200, deadline=None)
# Readings between which nothing but steps happened are few and short if they are rarer than validations.
@example(
    epochs=20,
    per_epoch=22,
    log_every=24,
    seed=0,
    eval_part=0.0,
    save_part=0.0,
    step_s=1.0,
    first_s=0.0,
    done=1,
    off=1.0,
)
@given(
    epochs=st.integers(20, 60), per_epoch=st.integers(20, 60), log_every=st.integers(1, 25), seed=st.integers(0, 9),
    eval_part=st.floats(0, 0.35), save_part=st.floats(0, 0.05), step_s=st.floats(0.001, 2), first_s=st.floats(0, 60),
    done=st.integers(0, 10), off=st.floats(0.7, 1.3),
)  # fmt: skip
def test_from_a_tenth_of_the_run_on_it_is_right_within_a_fifth(
    epochs, per_epoch, log_every, eval_part, step_s, save_part, first_s, seed, done, off
):
    epoch_s = per_epoch * step_s
    told = simulate(
        epochs, per_epoch, log_every, 1, step_s, eval_part * epoch_s, save_part * epoch_s, first_s, seed,
        done * per_epoch, eval_part * per_epoch * off,
    )  # fmt: skip
    for part, estimate, truth in told:
        # The last seconds: what one validation, one checkpoint or one reading takes.
        if part >= 0.1 and truth > epoch_s * (1 + eval_part + save_part):
            assert abs(estimate - truth) <= 0.2 * truth, (part, estimate, truth)


def test_rare_validations_are_learnt_as_they_come():
    told = simulate(100, 20, 10, 10, 0.1, 1.0, 0.0, 5.0, 0)
    assert all(abs(estimate - truth) <= 0.2 * truth for part, estimate, truth in told if part >= 0.1 and truth > 2)


def test_it_counts_down_between_two_readings():
    clock = Clock()
    left = TimeLeft(100, 0, clock=clock)
    clock.wait(30)
    left.stepped()
    clock.wait(19)
    left.trained(20)
    assert left.seconds() == 80
    clock.wait(3)
    assert left.seconds() == 77
    clock.wait(500)
    assert left.seconds() == 0


def test_before_the_first_reading_it_says_nothing():
    assert TimeLeft(100, 10).seconds() is None


def test_a_resumed_run_of_which_one_step_is_read_and_validated_has_an_estimate():
    """In the order of the loop: the reading of a step comes before its end."""
    clock = Clock()
    left = TimeLeft(4, 2, done=2, clock=clock)
    clock.wait(2)
    left.trained(3)
    left.stepped()
    clock.wait(1)
    left.validated(3)
    assert left.seconds() > 0
