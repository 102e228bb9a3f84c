"""The training itself: AdamW on open_clip's contrastive loss, resumable at any step that was kept.

    Batches ──> Network ──> Loss ──> AdamW at open_clip's cosine schedule ──> Run, every CHECKPOINT_STEPS and epoch

On a GPU the towers run compiled and in half precision: bfloat16 where it has that, else float16 with a scaled loss.
"""

import math

import numpy as np
import torch
from open_clip_train.scheduler import cosine_lr
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from tritonclip_server.finetune.batches import Batches
from tritonclip_server.finetune.network import Loss, Network, parameter_groups
from tritonclip_server.finetune.precision import autocast, gradient_scaler
from tritonclip_server.finetune.processes import Processes
from tritonclip_server.finetune.state import Run

CHECKPOINT_STEPS = 500
MAX_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5
STEP = 2  # what a seed is for, beside those of batches.py


def train(network: Network, batches: Batches, run: Run) -> None:
    """Train the network's model in place, to the plan's last step, from where the run was left.

    Each process calls it with its own batches. Raises OtherRun.
    """
    plan, processes = batches.plan, batches.processes
    recipe, device, model = plan.recipe, processes.device, network.model
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    scaler = gradient_scaler(device)
    done = run.restore(model=model, optimizer=optimizer, scaler=scaler)
    schedule = cosine_lr(optimizer, recipe.learning_rate, plan.warmup, plan.steps)
    forward = network.train() if processes.count == 1 else DistributedDataParallel(network.train())
    loss_of_step = Loss(model, processes)
    loader = DataLoader(
        batches,
        sampler=range(done, plan.steps),
        batch_size=None,
        num_workers=processes.workers,
        pin_memory=device.type == "cuda",
    )
    bar = tqdm(loader, initial=done, total=plan.steps, unit="step", disable=None if processes.is_first else True)
    for step, batch in enumerate(bar, start=done):
        schedule(step)
        torch.manual_seed(_seed(recipe.seed, step, processes))
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(device):
            loss = loss_of_step(*forward(images, batch.tokens.to(device, non_blocking=True)))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        if processes.is_first:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if (step + 1) % CHECKPOINT_STEPS == 0 or (step + 1) % plan.epoch_steps == 0:
                run.save(step + 1, model=model, optimizer=optimizer, scaler=scaler)


def _seed(seed: int, step: int, processes: Processes) -> int:
    """Of dropout and stochastic depth, so that a resumed run draws what an uninterrupted one would have."""
    return int(np.random.default_rng((seed, STEP, step, processes.rank)).integers(2**63))
