"""A training loop that can be stopped at any time and goes on where it was."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

SAVE_EVERY = 120  # seconds


def fit(
    name: str,
    modules: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    folder: Path,
    steps: int,
    learning_rate: float,
    ema: float = 0.0,
    horizon: int | None = None,
) -> dict[str, torch.Tensor]:
    """Minimise ``loss_of(step)``, warmed up and decayed to zero (AdamW, cosine), and return the weights.

    With ``ema`` the weights returned are the exponential moving average, and the decay may be left unfinished: the
    learning rate then falls along ``horizon`` steps, of which ``steps`` are done. ``loss_of`` must draw from the generators
    that it seeds with the step, so that a run that was stopped and resumed sees the same data.
    """
    final, checkpoint = folder / f"{name}.pt", folder / f"{name}.part.pt"
    if final.exists():
        return torch.load(final)
    horizon = horizon or steps
    optimizer = torch.optim.AdamW(modules.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, horizon, pct_start=min(0.1, 200 / horizon), div_factor=10, cycle_momentum=False
    )
    average = {key: value.detach().clone() for key, value in modules.state_dict().items()}
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        modules.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        average, first = state["average"], state["step"]
    saved, losses = time.monotonic(), []
    for step in range(first, steps):
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(ema, (1 + step) / (10 + step))
        for key, value in modules.state_dict().items():
            average[key].lerp_(value, 1 - decay)
        losses.append(loss.item())
        if step % 100 == 99:
            print(f"{name}: step {step + 1} of {steps}, loss {sum(losses) / len(losses):.4f}", flush=True)
            losses.clear()
        if time.monotonic() - saved > SAVE_EVERY or step == steps - 1:
            state = {
                "weights": modules.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "average": average,
                "step": step + 1,
            }
            partial = checkpoint.with_suffix(".tmp")
            torch.save(state, partial)
            partial.replace(checkpoint)
            saved = time.monotonic()
    torch.save(average, final)
    checkpoint.unlink()
    return average
