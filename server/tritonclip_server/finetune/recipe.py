"""The numbers that decide what comes of a run, beside model and data, and the steps that follow from them."""

from dataclasses import dataclass

from tritonclip_server.finetune.errors import BadRecipe

MOST_IMAGES = 512  # a step, unless told otherwise: FLYP's batch for ImageNet
MOST_WARMUP = 500  # steps, FLYP's; a tenth of a shorter run


@dataclass(frozen=True)
class Recipe:
    """Defaults are FLYP's for ImageNet (Goyal et al. 2023; its repository's README).

    `image_layers` and `text_layers` say how many groups of layers learn, counted from the output, in open_clip's own
    grouping; None stands for all.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    image_layers: int | None
    text_layers: int | None
    seed: int


@dataclass(frozen=True)
class Plan:
    """How a recipe goes through so many images in whole batches; those left over wait for another epoch's order.

    `batch` is the images of one step, in all processes together.
    """

    recipe: Recipe
    images: int
    batch: int

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return self.images // self.batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.epochs * self.epoch_steps

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return min(MOST_WARMUP, self.steps // 10)


def fitting_batch(wanted: int | None, images: int, processes: int, parts: int) -> int:
    """The images of a step: as wanted, or as many as there are up to MOST_IMAGES, in equal parts.

    Raises BadRecipe where they do not come in equal parts, or there are fewer.
    """
    unit = processes * parts
    sharing = f"{processes} processes in {parts} parts each" if unit > 1 else "one process"
    batch = wanted if wanted is not None else min(MOST_IMAGES, images) // unit * unit
    if batch % unit:
        raise BadRecipe(f"--batch {batch} does not come in equal parts for {sharing}: give a multiple of {unit}")
    if not unit <= batch <= images:
        raise BadRecipe(
            f"{images} images to learn from are fewer than a batch of {max(batch, unit)}, for {sharing}: "
            "give a smaller --batch, or more images"
        )
    return batch
