"""The optimizers take the steps of the pure functions, in place, on every library, and resume them."""

import pickle
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from rose_core import peers
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers.states import leaf_names, leaves
from rose_plan import rule_steps
from tests.backends import _torch as as_tensor
from tests.bits import assert_same_bits, host
from tests.peers.cases import RULES as OTHER_RULES
from tests.peers.matrix_cases import MATRIX_RULES
from tests.peers.trajectories import SEED, data_of, trajectory, with_options

LR, DECAY = 1e-2, 0.1
SHAPES = {"w": (6, 5), "b": (7,), "s": ()}


def model(dtype: str) -> dict[str, np.ndarray]:
    return {
        name: data_of(shape, dtype, steps=1, seed=number).param for number, (name, shape) in enumerate(SHAPES.items())
    }


def grads_of(step: int, dtype: str) -> dict[str, np.ndarray]:
    """Return the gradients of a step."""
    return {
        name: data_of(shape, dtype, steps=1, seed=100 * step + number).grads[0]
        for number, (name, shape) in enumerate(SHAPES.items(), 1)
    }


class Numpy:
    """An optimizer of NumPy, with arrays as the results."""

    def __init__(self, weights: dict[str, np.ndarray], rule: peers.Rule, **options: Any) -> None:
        self.weights = {name: x.copy() for name, x in weights.items()}
        self.optimizer = rose_numpy.Optimizer(self.weights, rule, lr=LR, sr_seed=SEED, **options)

    def step(self, grads: dict[str, np.ndarray]) -> None:
        self.optimizer.step(grads)

    def states(self) -> dict[int, dict[str, Any]]:
        return self.optimizer.state_dict()["state"]

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(
            {**state, "state": {i: converted(held, host) for i, held in state["state"].items()}}
        )


class Torch:
    """An optimizer of torch, with arrays as the results."""

    def __init__(self, weights: dict[str, np.ndarray], rule: peers.Rule, **options: Any) -> None:
        self.params = {name: torch.nn.Parameter(as_tensor(x)) for name, x in weights.items()}
        self.optimizer = rose_torch.Optimizer(self.params.items(), rule, lr=LR, sr_seed=SEED, **options)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return {name: host(param) for name, param in self.params.items()}

    def step(self, grads: dict[str, np.ndarray]) -> None:
        for name, param in self.params.items():
            param.grad = None if grads[name] is None else as_tensor(grads[name])
        self.optimizer.step()

    def states(self) -> dict[int, dict[str, Any]]:
        return self.optimizer.state_dict()["state"]

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(
            {**state, "state": {i: converted(held, as_tensor) for i, held in state["state"].items()}}
        )


def converted(state: dict[str, Any], convert: Any) -> dict[str, Any]:
    """Return the state of a parameter with the arrays of another library."""
    return {name: value if name == "step" else convert(host(value)) for name, value in state.items()}


def assert_same_run(actual: Any, expected: Any, *, backend: str) -> None:
    """Raise unless the weights and the states of two optimizers have the same bits."""
    for name, weight in expected.weights.items():
        assert_same_bits(actual.weights[name], weight, backend=backend, what=name)
    states, others = actual.states(), expected.states()
    assert list(states) == list(others)
    for index, state in others.items():
        assert list(states[index]) == list(state)
        for key, value in state.items():
            if key == "step":
                assert states[index][key] == value
            else:
                assert_same_bits(states[index][key], value, backend=backend, what=f"{key} of {index}")


RULES = OTHER_RULES | {name: rule for name, rule in MATRIX_RULES.items() if name.isalpha()}
LIBRARIES = pytest.mark.parametrize("library", [Numpy, Torch])
DTYPES = pytest.mark.parametrize(("dtype", "state_dtype"), [("float32", None), ("bfloat16", "bfloat16")])


@LIBRARIES
@DTYPES
@pytest.mark.parametrize("name", RULES)
def test_steps_have_the_bits_of_the_pure_functions(
    library: Any, name: str, dtype: str, state_dtype: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An elementwise rule runs in chunks of 7 elements here."""
    monkeypatch.setattr(rule_steps, "elements_of_chunk", lambda _: 7)
    rule, data = with_options(RULES[name], state_dtype=state_dtype), data_of((6, 5), dtype, steps=5)
    expected, state = trajectory(rule, data, np.asarray, lr=LR, decay=1.0 - LR * DECAY)
    run = library({"w": data.param}, rule, weight_decay=DECAY)
    for grad in data.grads:
        run.step({"w": grad})
    assert_same_bits(run.weights["w"], expected, backend=f"rose_{library.__name__.lower()}.Optimizer")
    named = zip(leaf_names(state), leaves(state), strict=True)
    for key, leaf in named:
        if leaf is not None:
            assert_same_bits(run.states()[0][key], leaf, backend=f"rose_{library.__name__.lower()}.Optimizer")


RESUME = """
import pickle, sys
from tests.peers import test_optimizers as t
path, library = sys.argv[1:]
resumed = []
for dtype, rule, weights, state in pickle.load(open(path, "rb")):
    run = getattr(t, library)(weights, rule, weight_decay=t.DECAY)
    run.load(state)
    for step in range(10, 20):
        run.step(t.grads_of(step, dtype))
    resumed.append((run.weights, {i: t.converted(s, t.np.asarray) for i, s in run.states().items()}))
pickle.dump(resumed, open(path, "wb"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("libraries", [(Numpy, Torch), (Torch, Numpy)])
def test_a_run_saved_by_one_library_continues_in_a_new_process_with_another(
    libraries: tuple[Any, Any], tmp_path: Path
) -> None:
    path, saved, runs = tmp_path / "run.pickle", [], []
    for rule in (peers.NAdamW(momentum_decay=4e-3), peers.ScheduleFree(peers.Adam(state_dtype="bfloat16"))):
        for dtype in ("float32", "bfloat16"):
            run = libraries[0](model(dtype), rule, weight_decay=DECAY)
            for step in range(10):
                run.step(grads_of(step, dtype))
            state = run.optimizer.state_dict()
            state["state"] = {index: converted(held, np.copy) for index, held in state["state"].items()}
            saved.append((dtype, rule, {name: x.copy() for name, x in run.weights.items()}, state))
            runs.append(run)
    path.write_bytes(pickle.dumps(saved))
    command = [sys.executable, "-c", RESUME, str(path), libraries[1].__name__]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for run, (dtype, *_), (weights, states) in zip(runs, saved, pickle.loads(path.read_bytes()), strict=True):
        for step in range(10, 20):
            run.step(grads_of(step, dtype))
        for key, weight in run.weights.items():
            assert_same_bits(weights[key], weight, backend="peers, resumed")
        for index, held in run.states().items():
            for key, value in converted(held, np.asarray).items():
                if key != "step":
                    assert_same_bits(states[index][key], value, backend="peers, resumed")


@pytest.mark.parametrize("name", RULES)
@DTYPES
@pytest.mark.parametrize("libraries", [(Numpy, Torch), (Torch, Numpy)])
def test_a_run_resumes_on_another_library(
    name: str, dtype: str, state_dtype: str | None, libraries: tuple[Any, Any]
) -> None:
    rule = with_options(RULES[name], state_dtype=state_dtype)
    weights = {key: x for key, x in model(dtype).items() if key == "w"}
    run = libraries[0](weights, rule)
    run.step({"w": grads_of(1, dtype)["w"]})
    resumed = libraries[1](run.weights, rule)
    resumed.load(run.optimizer.state_dict())
    for each in (run, resumed):
        each.step({"w": grads_of(2, dtype)["w"]})
    assert_same_run(resumed, run, backend="peers, resumed")


@LIBRARIES
@pytest.mark.parametrize(
    ("method", "factor"),
    [("decoupled", 1.0 - LR * DECAY), ("independent", 1.0 - DECAY), ("palm", 1.0 - LR * LR * DECAY)],
)
def test_weight_decay_shrinks_the_parameter_before_the_step(library: Any, method: str, factor: float) -> None:
    data = data_of((6, 5), "float64", steps=3)
    run = library({"w": data.param}, peers.Adam(), weight_decay=DECAY, weight_decay_method=method)
    for grad in data.grads:
        run.step({"w": grad})
    assert_same_bits(run.weights["w"], trajectory(peers.Adam(), data, np.asarray, lr=LR, decay=factor)[0])


@LIBRARIES
def test_l2_decay_adds_to_a_copy_of_the_gradient(library: Any) -> None:
    weight, grad = np.asarray([1.0, -2.0]), np.asarray([0.5, 0.5])
    run = library({"w": weight}, peers.SGD(), weight_decay=0.25, weight_decay_method="l2")
    run.step({"w": grad})
    assert_same_bits(run.weights["w"], weight - LR * (grad + 0.25 * weight))
    assert_same_bits(grad, np.asarray([0.5, 0.5]))
    if library is Torch:
        assert_same_bits(run.params["w"].grad, grad)


@LIBRARIES
def test_maximize_reads_the_negative_gradient(library: Any) -> None:
    data = data_of((6, 5), "float32", steps=1)
    runs = [library({"w": data.param}, peers.Adam(), maximize=maximize) for maximize in (True, False)]
    runs[0].step({"w": data.grads[0]})
    runs[1].step({"w": -data.grads[0]})
    assert_same_run(runs[0], runs[1], backend="")


@LIBRARIES
def test_a_parameter_without_gradient_keeps_its_value_its_state_and_its_step(library: Any) -> None:
    run, before = library(model("float32"), peers.Adam()), model("float32")
    run.step({**grads_of(1, "float32"), "b": None})
    assert_same_bits(run.weights["b"], before["b"])
    assert list(run.states()) == [0, 2]
    run.step(grads_of(2, "float32"))
    assert [state["step"] for state in run.states().values()] in ([2, 1, 2], [2, 2, 1])


@LIBRARIES
def test_noise_of_a_state_differs_from_that_of_the_parameter_and_of_other_states(library: Any) -> None:
    """With bf16_sr=False everything is rounded to nearest."""
    rule, x = peers.Adam(state_dtype="bfloat16"), np.ones((64, 64), ml_dtypes.bfloat16)
    grad = np.full((64, 64), 1.0039, ml_dtypes.bfloat16) * np.asarray(0.3, ml_dtypes.bfloat16)
    run = library({"w": x}, rule)
    run.step({"w": grad})
    average = 0.1 * grad.astype(np.float32)
    rounded_up = host(run.states()[0]["exp_avg"]).astype(np.float32) > average
    key = NoiseKey(SEED, 0, 0)
    noise = noise_in_range(key, 2**48, 2**48 + x.size, like=average).reshape(x.shape)
    lower_half = (average.view(np.uint32) & 0xFFFF).astype(np.int64)
    assert_same_bits(rounded_up, noise + lower_half >= 2**16)
    assert 0 < np.count_nonzero(rounded_up) < x.size
    assert not np.array_equal(noise, noise_in_range(key, 0, x.size, like=average).reshape(x.shape))
    nearest = library({"w": x}, rule, bf16_sr=False)
    nearest.step({"w": grad})
    assert len(np.unique(host(nearest.states()[0]["exp_avg"]).view(np.uint16))) == 1


@LIBRARIES
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1}, "weight_decay must be a finite number >= 0, got -1"),
        ({"weight_decay_method": "L2"}, "weight_decay_method must be one of 'decoupled', 'independent', 'l2', 'palm'"),
        ({"maximize": 1}, "maximize must be True or False, got 1"),
        ({"sr_seed": -1}, "sr_seed must be an integer in [0, 2**64), got -1"),
        ({"lr": float("nan")}, "lr must be a finite number >= 0, got nan"),
        ({"rule": peers.Adam}, "rule must be a rule of rose_core.peers, as Adam() is"),
    ],
)
def test_wrong_options_are_refused_by_name(library: Any, options: dict[str, Any], message: str) -> None:
    module = rose_numpy if library is Numpy else rose_torch
    param = np.ones(2) if library is Numpy else torch.ones(2)
    arguments = {"rule": peers.Adam(), "lr": LR, **options}
    with pytest.raises((TypeError, ValueError)) as error:
        module.Optimizer([param], **arguments)
    assert str(error.value).startswith(message)
    optimizer = module.Optimizer([param], peers.Adam(), LR)
    with pytest.raises((TypeError, ValueError)):
        optimizer.add_param_group({"params": [param * 1], **options})
    assert len(optimizer.param_groups) == 1


@LIBRARIES
def test_a_step_with_one_bad_gradient_changes_nothing(library: Any) -> None:
    run, before = library(model("float32"), peers.Adam()), model("float32")
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        run.step({**grads_of(1, "float32"), "s": np.ones((3,), np.float32)})
    for name, weight in before.items():
        assert_same_bits(run.weights[name], weight)
    assert not run.states()


@LIBRARIES
def test_a_state_of_another_rule_is_refused(library: Any) -> None:
    run = library(model("float32"), peers.Adam())
    run.step(grads_of(1, "float32"))
    other = library(model("float32"), peers.Adam(betas=(0.8, 0.999)))
    with pytest.raises(ValueError, match="is of the rule"):
        other.load(run.optimizer.state_dict())
    assert not other.states()


@LIBRARIES
@pytest.mark.parametrize("change", ["shape", "dtype", "name", "missing"])
def test_a_state_that_does_not_fit_is_refused(library: Any, change: str) -> None:
    run, other = (library(model("float32"), peers.Adam()) for _ in range(2))
    run.step(grads_of(1, "float32"))
    state = run.optimizer.state_dict()
    held = state["state"] = {index: converted(value, np.copy) for index, value in state["state"].items()}
    if change == "shape":
        held[0]["exp_avg"] = held[0]["exp_avg"][:1]
    elif change == "dtype":
        held[0]["exp_avg"] = held[0]["exp_avg"].astype(np.float64)
    elif change == "name":
        held[0]["velocity"] = held[0].pop("exp_avg")
    else:
        del held[1]["step"]
    with pytest.raises(ValueError, match=r"shape|dtype|lacks the keys"):
        other.load(state)
    assert not other.states()


@LIBRARIES
def test_a_gradient_that_is_the_parameter_is_read_before_it_is_written(library: Any) -> None:
    x = data_of((6, 5), "float32", steps=1).param
    expected, run = Numpy({"w": x}, peers.Adam()), library({"w": x}, peers.Adam())
    expected.step({"w": x.copy()})
    if library is Numpy:
        run.step({"w": run.weights["w"]})
    else:
        run.params["w"].grad = run.params["w"].detach()
        run.optimizer.step()
    assert_same_bits(run.weights["w"], expected.weights["w"])


@pytest.mark.parametrize("shape", [(2_000_000,), (1, 2_000_000), (1000, 2000), (1_000_000, 2)])
@pytest.mark.parametrize("transpose", [False, True])
def test_the_working_memory_of_a_step_is_constant(shape: tuple[int, ...], transpose: bool) -> None:
    """The parameter takes 8 MiB. A chunk of 65536 elements takes half a MiB in float64."""
    weight, grad = (np.ones(shape, np.float32) for _ in range(2))
    weight = weight.T if transpose else weight
    optimizer = rose_numpy.Optimizer([weight], peers.AdamW(state_dtype="bfloat16"), lr=LR)
    optimizer.step([grad.reshape(weight.shape)])  # makes the state
    tracemalloc.start()
    try:
        optimizer.step([grad.reshape(weight.shape)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20


def test_groups_have_their_own_rule_and_options() -> None:
    arrays = [data_of((6, 5), "float32", steps=1, seed=seed) for seed in range(2)]
    weights = [data.param.copy() for data in arrays]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "rule": peers.Lion(), "lr": 0.5, "weight_decay": 0}]
    optimizer = rose_numpy.Optimizer(groups, peers.Adam(), lr=LR, weight_decay=0.0, sr_seed=SEED)
    optimizer.step([[data.grads[0]] for data in arrays])
    for number, (rule, lr) in enumerate(((peers.Adam(), LR), (peers.Lion(), 0.5))):
        assert_same_bits(weights[number], trajectory(rule, arrays[number], np.asarray, lr=lr, decay=1.0)[0])
    tensors = [torch.nn.Parameter(as_tensor(data.param)) for data in arrays]
    groups = [{"params": [tensors[0]]}, {"params": [tensors[1]], "rule": peers.Lion(), "lr": 0.5, "weight_decay": 0}]
    torch_optimizer = rose_torch.Optimizer(groups, peers.Adam(), lr=LR, weight_decay=0.0)
    for tensor, data in zip(tensors, arrays, strict=True):
        tensor.grad = as_tensor(data.grads[0])
    torch_optimizer.step()
    for tensor, weight in zip(tensors, weights, strict=True):
        assert_same_bits(tensor, weight)


def test_an_interrupt_during_a_step_leaves_it_whole() -> None:
    class Interrupting(peers.SGD):
        def compute(self, *arguments: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().compute(*arguments)

    run = Numpy(model("float32"), Interrupting())
    expected = Numpy(model("float32"), peers.SGD())
    with pytest.raises(KeyboardInterrupt):
        run.step(grads_of(1, "float32"))
    expected.step(grads_of(1, "float32"))
    assert_same_run(run, expected, backend="")


@LIBRARIES
def test_a_hessian_enters_the_state(library: Any) -> None:
    data, rule = data_of((6, 5), "float32", steps=2), peers.ClipUpdates(peers.SophiaH(state_dtype="bfloat16"))
    run, hessian = library({"w": data.param}, rule, weight_decay=0.0), np.abs(data.grads[1])
    run.step({"w": data.grads[0]})
    state = trajectory(rule, data._replace(grads=data.grads[:1]), np.asarray, lr=LR, decay=1.0)[1]
    if library is Numpy:
        run.optimizer.update_hessian({"w": hessian})
    else:
        run.optimizer.update_hessian([as_tensor(hessian)])
    expected = rule.update_hessian(hessian, state, step=1, seed=SEED)
    for key, leaf in zip(leaf_names(expected), leaves(expected), strict=True):
        assert_same_bits(run.states()[0][key], leaf, what=key)
    other = library({"w": data.param}, peers.Adam())
    with pytest.raises(TypeError, match="Adam takes no Hessian; SophiaH does"):
        other.optimizer.update_hessian({"w": hessian} if library is Numpy else [as_tensor(hessian)])
    hessian = hessian[:3]
    with pytest.raises(ValueError, match=r"essian .*has shape \(3, 5\).* has \(6, 5\); they must be equal"):
        run.optimizer.update_hessian({"w": hessian} if library is Numpy else [as_tensor(hessian)])


@LIBRARIES
@pytest.mark.parametrize("wrap", [peers.SpikeGuard, lambda rule: peers.ClipUpdates(rule, mode="global_rms")])
def test_a_sum_over_all_parameters_is_read_by_each(library: Any, wrap: Any) -> None:
    """A bad gradient of one parameter skips the step of all, and a large update scales all down."""
    rule, weights = wrap(peers.SGD()), model("float32")
    grads = {name: np.zeros_like(x) for name, x in weights.items()}
    grads["w"][0, 0] = np.nan if wrap is peers.SpikeGuard else 38e3
    grads["b"] += np.float32(1.0)
    run = library(weights, rule)
    run.step(grads)
    size = sum(x.size for x in weights.values())
    scale = 0.0 if wrap is peers.SpikeGuard else 2.0 / np.sqrt((38e3**2 + 7.0) / size)
    expected = (weights["b"].astype(np.float64) - LR * (scale * 1.0)).astype(np.float32)
    np.testing.assert_allclose(run.weights["b"], expected, rtol=1e-6)
    assert np.any(run.weights["b"] != weights["b"]) == (wrap is not peers.SpikeGuard)


@LIBRARIES
def test_schedule_free_weights_are_evaluated_at_the_average(library: Any) -> None:
    rule = peers.ScheduleFree(peers.Adam(betas=(0.0, 0.999)))
    data = data_of((6, 5), "float32", steps=3)
    run = library({"w": data.param}, rule, weight_decay=0.0)
    before = run.optimizer.evaluation_params()
    assert_same_bits(before["w"] if library is Numpy else before[0][0], data.param)
    for grad in data.grads:
        run.step({"w": grad})
    evaluated = run.optimizer.evaluation_params()
    param, state = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    assert_same_bits(evaluated["w"] if library is Numpy else evaluated[0][0], rule.evaluation_param(param, state))
    assert_same_bits(run.weights["w"], param)
