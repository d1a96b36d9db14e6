"""A port that is a PyTorch optimizer, called like in a training loop."""

import inspect
import warnings
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch

from rose_spec.arrays import array_from_words, from_array, words_of
from rose_spec.oracle import Tensor
from rose_spec.ports.port import HarnessError, described, lacking, load_object, plain_options
from rose_spec.ports.python_function import accepted_names
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Unsupported
from rose_spec.trajectory import Trajectory
from rose_spec.vectors import number_from_json, tensor_from_json

__all__ = ["TorchPort", "from_torch", "to_torch"]

DTYPES: Final = {name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16")}
# The keys of a group that are not options of the constructor.
GROUP_KEYS: Final = ("params", "initial_lr", "max_lr")
# The options of the specification, which may be renamed.
OPTIONS: Final = (
    *("lr", "weight_decay", "wd_schedule", "centralize", "stabilize", "maximize"),
    *("compute_dtype", "bf16_sr", "sr_seed", "max_step"),
)
NARROW: Final = ("fp16", "bf16", "float16", "bfloat16")


class _Unsupported(Exception):  # noqa: N818  (no error: it becomes a reply)
    """The optimizer lacks a feature that the request needs."""

    def __init__(self, reason: str, *options: str) -> None:
        super().__init__(reason)
        self.options = options


class TorchPort:
    """A `torch.optim.Optimizer`.

    Parameters
    ----------
    optimizer : str
        The class, as ``module:Class``. Its constructor receives only the options of the vector.
    options : mapping
        Options that the constructor receives in every vector.
    renames : mapping
        Maps the specification's name of an option to the optimizer's name.

    Notes
    -----
    A reference lr is passed as ``wd_schedule``.

    If a vector has noise, the optimizer draws other words from torch's default generator. The runner seeds this
    generator, and knows the words if they are drawn as ``torch.empty(shape, dtype=torch.int32).random_(0, 2**16)``.
    The answer is compared with the oracle's answer for these words. A trajectory with stochastic rounding needs
    portable noise, and so an option ``sr_seed``.

    ValueError, TypeError and RuntimeError, which torch raises, are refusals. NotImplementedError is unsupported.
    """

    def __init__(self, optimizer: str, options: Mapping[str, Any], renames: Mapping[str, str]) -> None:
        self.name = optimizer
        self._class = load_object(optimizer)
        if not (inspect.isclass(self._class) and issubclass(self._class, torch.optim.Optimizer)):
            raise HarnessError(f"{optimizer} must be a torch.optim.Optimizer, got {self._class!r}")
        self._options = dict(options)
        self._renames = dict(renames)
        self._accepted = accepted_names(self._class)
        if missing := [name for name in self._options if not self._accepts(name)]:
            raise HarnessError(f"{optimizer} has no option {', '.join(missing)}")
        self._check_renames()

    def _check_renames(self) -> None:
        """Refuse a renaming to or from an option that does not exist."""
        for ours, theirs in self._renames.items():
            if ours not in OPTIONS:
                raise HarnessError(f"--rename {ours}={theirs}: {ours} must be one of {', '.join(OPTIONS)}")
            if not self._accepts(theirs):
                raise HarnessError(f"--rename {ours}={theirs}: {self.name} has no option {theirs}")
        if not self._accepts(self._renames.get("lr", "lr")):
            raise HarnessError(f"{self.name} has no option lr; --rename lr=NAME gives its name")

    def step(self, request: StepRequest) -> Reply:
        """Construct the optimizer for one parameter and take one step."""
        param = to_torch(request.param).requires_grad_()
        seed = zlib.crc32(request.id.encode())
        drawn = None if request.noise is None else draw(request.param.shape, seed)
        try:
            options = self._named(self._step_options(request))
            set_grad(param, to_torch(request.grad))
            torch.manual_seed(seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._class([param], **{**options, **self._options}).step()
        except (_Unsupported, NotImplementedError) as missing:
            return unsupported(missing)
        except (ValueError, TypeError, RuntimeError) as error:
            if words(param) != words(to_torch(request.param)):
                return Failed(f"raised after it changed the parameter (ROSE-11.3): {described(error)}")
            return Refused(described(error))
        except BaseException as error:
            return Failed(f"raised {described(error)}")
        try:
            return Answer(from_torch(param), noise=drawn)
        except BaseException as error:  # the optimizer may have changed the dtype or the storage
            return Failed(f"left a parameter that cannot be read: {described(error)}")

    def trajectory(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Construct the optimizer for all groups and take all steps."""
        trajectory = Trajectory(value)
        exchanges: list[Exchange] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer = self._construct(value, trajectory)
                for step in trajectory.steps:
                    self._take(optimizer, trajectory, step, name, exchanges)
            return exchanges, [[from_torch(param) for param in group["params"]] for group in optimizer.param_groups]
        except (_Unsupported, NotImplementedError) as missing:
            return exchanges, unsupported(missing)
        except BaseException as error:
            return exchanges, Failed(f"raised {described(error)}")

    def noise(self, request: NoiseRequest) -> Reply:  # noqa: ARG002  (no optimizer shows its noise)
        """Reply that an optimizer has no interface to its noise."""
        return Unsupported("an optimizer does not return its noise; trajectories with sr_seed check it")

    def option_name(self, option: str) -> str:
        """Return the constructor's name of an option of a step."""
        name = "wd_schedule" if option == "lr_reference" else option
        return self._renames.get(name, name)

    def close(self) -> None:
        """Do nothing."""

    def _take(
        self,
        optimizer: torch.optim.Optimizer,
        trajectory: Trajectory,
        step: Mapping[str, Any],
        name: str,
        log: list[Exchange],
    ) -> None:
        """Take one step of a trajectory, and log it as single steps from the optimizer's parameters."""
        groups = list(zip(optimizer.param_groups, trajectory.groups, step["lr"], step["grads"], strict=True))
        for group, state, lr, grads in groups:
            state.options["lr"] = lr
            state.record_initial_lr()
            state.params = [from_torch(param) for param in group["params"]]
            group[self._renames.get("lr", "lr")] = number_from_json(lr)
            for param, grad in zip(group["params"], grads, strict=True):
                set_grad(param, None if grad is None else to_torch(tensor_from_json(grad)))
        param_steps = list(trajectory.param_steps(step))
        optimizer.step()
        for taken in param_steps:
            after = from_torch(optimizer.param_groups[taken.group]["params"][taken.position])
            log.append(Exchange(taken.request(f"{name}/{len(log)}"), Answer(after)))
        for state in trajectory.groups:
            state.count_step()

    def _construct(self, value: Mapping[str, Any], trajectory: Trajectory) -> torch.optim.Optimizer:
        """Construct the optimizer of a trajectory; options that all groups share go to the constructor."""
        lr = self._renames.get("lr", "lr")
        pairs = zip(value["groups"], trajectory.groups, strict=True)
        groups = [self._group(given, group.params) for given, group in pairs]
        for group, first in zip(groups, trajectory.steps[0]["lr"], strict=True):
            group.setdefault(lr, number_from_json(first))
        shared = {
            name: option
            for name, option in groups[0].items()
            if name not in GROUP_KEYS and all(name in g and repr(g[name]) == repr(option) for g in groups)
        }
        rest = [{name: option for name, option in group.items() if name not in shared} for group in groups]
        optimizer: torch.optim.Optimizer = self._class(rest, **{lr: groups[0][lr], **shared, **self._options})
        return optimizer

    def _group(self, value: Mapping[str, Any], params: Iterable[Tensor]) -> dict[str, Any]:
        """Return a group of a trajectory as a parameter group of torch."""
        options = dict(value["options"])
        stochastic = options.get("bf16_sr", True) and any(param["dtype"] == "bfloat16" for param in value["params"])
        seed = options.pop("sr_seed", "0")
        if stochastic:
            if not self._accepts(self._renames.get("sr_seed", "sr_seed")):
                raise _Unsupported("no option sr_seed, so no portable noise")
            options["sr_seed"] = int(seed, 16) if isinstance(seed, str) else seed
        extra = {key: number_from_json(value[key]) for key in ("initial_lr", "max_lr") if key in value}
        tensors = [to_torch(param).requires_grad_() for param in params]
        schedule = options.get("wd_schedule")
        if isinstance(schedule, str):
            options["wd_schedule"] = number_from_json(schedule)
        return {"params": tensors, **self._named(plain_options(options)), **extra}

    def _step_options(self, request: StepRequest) -> dict[str, Any]:
        """Return the constructor's options for a step, with the names of the specification."""
        options = plain_options(request.options)
        reference = options.pop("lr_reference", None)
        if reference is not None:
            options["wd_schedule"] = reference
        stochastic = self._renames.get("bf16_sr", "bf16_sr")
        narrow = str(options.get("compute_dtype")).strip().lower() in NARROW
        if request.noise is not None and request.param.dtype != "bfloat16" and not narrow:
            raise _Unsupported("an optimizer draws no noise for other parameters than bfloat16")
        if request.noise is not None and not self._accepts(stochastic):
            raise _Unsupported("no option bf16_sr, so no stochastic rounding")
        # Its default, true, is wrong for a bfloat16 parameter without noise, and refused with 16-bit compute dtypes.
        if request.noise is None and (narrow or request.param.dtype == "bfloat16") and self._accepts(stochastic):
            options["bf16_sr"] = False
        return options

    def _named(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with the optimizer's names."""
        named = {self._renames.get(name, name): value for name, value in options.items()}
        if missing := [name for name in named if not self._accepts(name)]:
            raise _Unsupported(f"no option {', '.join(missing)}", *missing)
        return named

    def _accepts(self, name: str) -> bool:
        return self._accepted is None or name in self._accepted


def unsupported(error: _Unsupported | NotImplementedError) -> Unsupported:
    """Return the reply for a missing feature."""
    options = error.options if isinstance(error, _Unsupported) else ()
    return Unsupported(lacking(error), options)


def draw(shape: tuple[int, ...], seed: int) -> list[int]:
    """Return the words that an optimizer draws from the default generator after it is seeded."""
    torch.manual_seed(seed)
    return [int(word) for word in torch.empty(shape, dtype=torch.int32).random_(0, 2**16).ravel().tolist()]


def set_grad(param: torch.Tensor, grad: torch.Tensor | None) -> None:
    """Set the gradient of a parameter; torch needs `grad_dtype` if the dtypes differ."""
    if grad is not None and grad.dtype != param.dtype:
        if not hasattr(param, "grad_dtype"):
            raise _Unsupported(f"torch {torch.__version__} has no gradients whose dtype differs from the parameter's")
        param.grad_dtype = grad.dtype
    param.grad = grad


def to_torch(tensor: Tensor) -> torch.Tensor:
    """Return an oracle's tensor as a new torch tensor with the same bits."""
    bits = np.ascontiguousarray(words_of(tensor))
    signed = torch.from_numpy(bits.view(f"i{bits.dtype.itemsize}").reshape(-1))
    return signed.view(DTYPES[tensor.dtype]).reshape(tensor.shape)


def words(tensor: torch.Tensor) -> list[int]:
    """Return the words of a tensor as signed integers."""
    width = {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()]
    return [int(word) for word in tensor.detach().contiguous().reshape(-1).view(width).tolist()]


def from_torch(tensor: torch.Tensor) -> Tensor:
    """Return a torch tensor as the oracle's tensor."""
    name = str(tensor.dtype).removeprefix("torch.")
    bits = np.asarray(words(tensor), f"i{tensor.element_size()}").view(f"u{tensor.element_size()}")
    return from_array(array_from_words(name, bits.reshape(tuple(tensor.shape))))
