"""The doing of a step that is checked: by compiled kernels, or by the core block by block."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from rose_core.alike import Alike, alike
from rose_core.blocks import NoiseSource, Step, Updated, updated_blocks
from rose_core.gradient import Gradient
from rose_core.namespace import block_elements, quiet
from rose_core.noise import noise_of_many
from rose_core.overlap import Sharing, sharing
from rose_kernels import Kernels, Launch
from rose_torch.checks import is_of_no_subclass
from rose_torch.collectives import in_lockstep
from rose_torch.generators import drawn_words
from rose_torch.placement import extent
from rose_torch.sharded import Statistics, noise_of_part, statistics_of_part, updated_part
from rose_torch.small import are_small, as_numpy
from rose_torch.team import threads_of_torch
from rose_torch.updates import DrawnNoise, PortableNoise, Update, Updates

if TYPE_CHECKING:
    from rose_torch.parts import Part

__all__ = ["run_updates"]

T = TypeVar("T")

# At most so many blocks of words are drawn ahead, for parameters to be done together. Each tensor of them counts for
# some more, since what Python keeps of it takes memory, too.
_BLOCKS_AHEAD: Final = 4
_WORDS_OF_A_TENSOR: Final = 128


def run_updates(groups: Sequence[Updates], kernels: Kernels) -> None:
    """Do a step: what kernels can do at once, then the rest.

    Noise is drawn in the order of the parameters, and those that share memory begin with what the one before has left.
    What ranks tell each other, they tell before the first parameter is written.
    """
    groups = list(map(_reduced, groups))
    requests = _requests(groups)
    shared = _sharing(groups, requests)
    if shared.grads:
        groups = _apart(groups, shared.grads)
        requests = _requests(groups)
    own, noise, in_turn = requests.kernels, requests.noise, set(shared.params)
    at_once = [
        place
        for place, kernel in enumerate(own)
        if kernel and place not in in_turn and not isinstance(noise[place], DrawnNoise)
    ]
    ones = [] if len(at_once) == len(own) else _column(group.each() for group in groups)
    others = {place: ones[place] for place in sorted(set(range(len(ones))) - set(at_once))}
    statistics = _statistics_of_parts(others)
    kernels.prepare(own)
    if at_once:
        kernels.run(requests.at(at_once) if others else requests, threads_of_torch())
    if others:
        _run_in_order(others, requests, kernels, statistics, in_turn)
    # Autograd sees what torch's own operations change; a kernel's writing it must be told of.
    params = chain.from_iterable(group.params for group in groups)
    torch.autograd.graph.increment_version([param for param, kernel in zip(params, own, strict=True) if kernel])


def _run_in_order(
    updates: Mapping[int, Update],
    requests: Launch,
    kernels: Kernels,
    statistics: Mapping[int, Statistics],
    in_turn: Collection[int],
) -> None:
    """Do the parts of a step at some places: those in turn that have to be, and the others together.

    What waits to be done together has its noise drawn ahead, in the order of the parameters.
    """
    together, words = dict[int, Update](), 0
    for place, update in updates.items():
        own_words = update.param.numel() + _WORDS_OF_A_TENSOR if isinstance(update.noise, DrawnNoise) else 0
        most_words = _BLOCKS_AHEAD * block_elements(update.param)
        if place in statistics:
            _write(updated_part(_step(update, _noise([update], update.param)), statistics[place]))
        elif place in in_turn or own_words > most_words or not _joins_others(update):
            _run_alone(update, requests.at([place]), kernels)
        else:
            if words + own_words > most_words:
                _run_together(together, requests, kernels)
                together, words = {}, 0
            together[place] = _drawn(update) if own_words else update
            words += own_words
    _run_together(together, requests, kernels)


def _reduced(group: Updates) -> Updates:
    """Return a group with the gradients that the ranks have still to sum, as after sequence-parallel layers."""
    if group.parts is None:
        return group
    summed = [_summed(grad, part) for grad, part in zip(group.grads, group.parts, strict=True)]
    grads = [grad for grad, _ in summed]
    found = group.found._replace(grad_extents=list(map(extent, grads)))
    return group._replace(grads=grads, found=found, parts=[part for _, part in summed])


def _summed(grad: Tensor, part: "Part | None") -> "tuple[Tensor, Part | None]":
    if part is None or part.reduced is None:
        return grad, part
    return part.reduced(), part if part.within or part.across else None


def _requests(groups: Sequence[Updates]) -> Launch:
    """Return what is asked of kernels. Where there is none, it only keeps the place: the core does that part."""
    options = [(group.options.lr, group.factor, group.options.maximize) for group in groups]
    counts = np.asarray([len(group.params) for group in groups], np.intp)
    rates, factors, negated = np.repeat(np.reshape(options, (-1, 3)), counts, axis=0).T
    return Launch(
        kernels=_column(group.found.kernels for group in groups),  # type: ignore[misc]
        params=[param.data_ptr() for group in groups for param in group.params],
        grads=[grad.data_ptr() for group in groups for grad in group.grads],
        lr=rates,
        decay=factors,
        maximize=negated != 0.0,
        noise=_column(group.noise for group in groups),  # type: ignore[misc]
    )


def _sharing(groups: Sequence[Updates], requests: Launch) -> Sharing:
    """Return the places of the parameters and the gradients that share memory."""
    param_extents = tuple(_column(group.found.param_extents for group in groups))
    grad_extents = tuple(_column(group.found.grad_extents for group in groups))
    return sharing((tuple(requests.params), param_extents), (tuple(requests.grads), grad_extents))


def _apart(groups: Sequence[Updates], places: Sequence[int]) -> list[Updates]:
    """Return the groups with copies of the gradients at some places.

    They would change with the parameters in whose memory they lie, before their own turn. The core takes the copies,
    which may lie in another order.
    """
    separate, first = [], 0
    for group in groups:
        grads, kernels = list(group.grads), list(group.found.kernels)
        for place in places:
            if first <= place < first + len(grads):
                grads[place - first], kernels[place - first] = grads[place - first].clone(), None
        separate.append(group._replace(grads=grads, found=group.found._replace(kernels=kernels)))
        first += len(grads)
    return separate


def _column(columns: Iterable[Sequence[T]]) -> list[T]:
    return list(chain.from_iterable(columns))


def _joins_others(update: Update) -> bool:
    """Tell whether what is done to a parameter and its gradient may be done to many at once."""
    return is_of_no_subclass(update.param) and is_of_no_subclass(update.grad)


def _run_alone(update: Update, requests: Launch, kernels: Kernels) -> None:
    """Do the part of one parameter, which the requests are of, in turn."""
    if update.kernel is None:
        _run_by_core([update])
    elif isinstance(update.noise, DrawnNoise):
        _run_drawing(update, requests, kernels)
    else:
        kernels.run(requests, threads_of_torch())


def _run_drawing(update: Update, requests: Launch, kernels: Kernels) -> None:
    words = drawn_words(update.param, update.noise.generator)  # type: ignore[union-attr]

    def draw(start: int, stop: int) -> tuple[int, Any]:
        drawn = words(start, stop)
        return drawn.data_ptr(), drawn

    kernels.run_drawing(requests._replace(noise=[None]), draw, threads_of_torch())


def _drawn(update: Update) -> Update:
    """Return an update whose noise is drawn."""
    generator = update.noise.generator  # type: ignore[union-attr]
    return update._replace(noise=DrawnNoise(generator, drawn_words(update.param, generator)(0, update.param.numel())))


@quiet
def _statistics_of_parts(updates: Mapping[int, Update]) -> dict[int, Statistics]:
    """Return the statistics of those updates that are of parts, by their place."""
    parts = [(place, update, update.part) for place, update in updates.items() if update.part is not None]
    statistics = in_lockstep([statistics_of_part(_step(update), part) for _, update, part in parts])
    return {place: found for (place, *_), found in zip(parts, statistics, strict=True)}


def _run_together(updates: Mapping[int, Update], requests: Launch, kernels: Kernels) -> None:
    """Do the parts of parameters that lie apart, those by kernels at once and of the others those that are alike."""
    if at_once := [place for place, update in updates.items() if update.kernel is not None]:
        words = [updates[place].noise.words.data_ptr() for place in at_once]  # type: ignore[union-attr]
        kernels.run(requests.at(at_once)._replace(drawn_noise=words), threads_of_torch())
    for own in alike([update for update in updates.values() if update.kernel is None]):
        _run_by_core(own)


def _run_by_core(updates: Sequence[Update]) -> None:
    """Do the steps of parameters that are alike."""
    params, grads = [update.param for update in updates], [update.grad for update in updates]
    if are_small(params) and are_small(grads):
        for array, index, values in _updated_blocks(updates, *(list(map(as_numpy, x)) for x in (params, grads))):
            array[index] = values
        torch.autograd.graph.increment_version(params)
    else:
        _write(_updated_blocks(updates, params, grads))


def _write(updated: Iterator[Updated]) -> None:
    for param, index, values in updated:
        param[index].copy_(values)
        del values  # so that the next block lies where this one did, in the cache


def _updated_blocks(updates: Sequence[Update], params: Sequence[Any], grads: Sequence[Any]) -> Iterator[Updated]:
    """Return what the core makes of parameters and their gradients, tensors or the arrays in their place."""
    _, _, options, factor, compute, *_ = updates[0]
    noise = _noise(updates, params[0])
    return updated_blocks(params, grads, options, factor=factor, compute=compute, noise=noise)


def _step(update: Update, noise: NoiseSource | None = None) -> Step:
    """Return the step of a part."""
    gradient = Gradient(Alike([update.grad]), update.compute, update.options.maximize)
    return Step(Alike([update.param]), gradient, update.options, update.factor, noise)


def _noise(updates: Sequence[Update], like: Any) -> NoiseSource | None:
    """Return the noise of parameters that are alike, if they have any, in arrays of the library of `like`.

    Those that have still to draw noise and those that are parts come one at a time.
    """
    one = updates[0]
    if one.noise is None:
        return None
    if isinstance(one.noise, DrawnNoise):
        rows = _rows_to_draw(one) if one.noise.words is None else _drawn_rows(updates)
        return rows if like is one.param else lambda own, start, stop: as_numpy(rows(own, start, stop))
    if one.part is not None:
        return noise_of_part(one.part, **one.noise._asdict(), like=like)
    return noise_of_many([update.noise for update in updates if isinstance(update.noise, PortableNoise)], like=like)


def _rows_to_draw(update: Update) -> NoiseSource:
    """Return the noise of a parameter, which is drawn when it is asked for."""
    drawn = drawn_words(update.param, update.noise.generator)  # type: ignore[union-attr]
    return lambda _, start, stop: drawn(start, stop)


def _drawn_rows(updates: Sequence[Update]) -> NoiseSource:
    """Return the noise that is drawn for parameters that are alike."""
    words: list[Tensor] = [update.noise.words for update in updates]  # type: ignore[union-attr, misc]

    def rows(own: slice, start: int, stop: int) -> Tensor:
        whole = stop - start == updates[0].param.numel()
        return torch.stack(words[own] if whole else [row[start:stop] for row in words[own]])

    return rows
