"""What a variant and a host change in the configs of model_repository/: set through Triton's protobuf, never as text.

Shapes go by tensor name: whatever is called `pixels` has the image size, in inputs, outputs and warm-up alike. A config
that nothing changes keeps its text, comments included; for the default variant on a GPU host that is every one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup, ModelWarmup

from tritonclip_server.export.checkpoint import Preprocessing
from tritonclip_server.export.tokenizer import TokenizerSettings
from tritonclip_server.repository.configs import read_config, write_config

OVERLAY = Path(__file__).with_name("overlay")  # models that only the embedded server needs

# A CPU encodes tens of images a second, not thousands: queues hold seconds of work at that rate, not more.
CPU_MAX_QUEUE = 64
# Of each stage that batches, whatever the cores: with a single one, Triton leaves what waits for it lying for half a
# second (docs/architecture.md). Two image encoders, each on all cores, are faster besides: while one waits for a thread
# that decoding has pushed aside, the other one works. Measured on 2 cores, interleaved: 1.02 to 1.15 of the bare
# encoder's throughput, with one 0.91 to 0.95.
CPU_BATCHED_INSTANCES = 2
# A small encoder's layers are too small to share out among threads, which then wait for each other: one thread each,
# and the two processes fill the cores. Decision 5 in docs/decisions.md has the figures, of 3.4 million
# parameters; at 88 million threads pay. The limit lies between them, nobody knows where best.
SMALL_ENCODER_PARAMETERS = 20_000_000
# A large one encodes a few images a second, and an execution takes all that wait: this many in the queue, and as many
# in each of two executions, are 8 s at 3 images/s. With 64, requests waited longer than their callers; with 16 nearly
# as long, where something else ran beside. What finds no room there waits undecoded, as many in the queue of
# image_preprocess and in each of its processes, another 8 s. With 4 in that queue, the 8 callers who were answered
# together and asked again together were refused.
LARGE_ENCODER_QUEUE = 8


@dataclass(frozen=True)
class Deployment:
    """Everything about a variant and its host that configs depend on."""

    host: str  # "gpu" or "cpu"
    preprocessing: Preprocessing
    embedding_width: int
    tokenizer: TokenizerSettings
    small_image_encoder: bool  # below SMALL_ENCODER_PARAMETERS

    def dims(self, tensor: str) -> list[int] | None:
        """The dimensions that end this tensor's shape, or None where the variant does not change it."""
        return {
            "pixels": [3, self.preprocessing.image_size, self.preprocessing.image_size],
            "tokens": [self.tokenizer.context_length],
            "image_features": [self.embedding_width],
            "text_features": [self.embedding_width],
        }.get(tensor)

    def parameters(self, model: str) -> dict[str, str]:
        """The string parameters of a model's config that the variant decides."""
        if model == "image_preprocess":
            return {
                "resize_mode": self.preprocessing.resize_mode,
                "interpolation": self.preprocessing.interpolation,
                "fill_color": str(self.preprocessing.fill_color),
            }
        return self.tokenizer.parameters() if model == "text_tokenize" else {}


def configure(repository: Path, deployment: Deployment) -> None:
    """Rewrite, in place, the configs of a copy of model_repository/ that this deployment changes."""
    for path in sorted(repository.glob("*/config.pbtxt")):
        committed = read_config(path)
        config = ModelConfig.FromString(committed.SerializeToString())
        _set_shapes(config, deployment)
        for key, value in deployment.parameters(config.name).items():
            config.parameters[key].string_value = value
        if deployment.host == "cpu":
            set_cpu_host(config)
            if config.name in ("image_preprocess", "image_encoder"):
                _set_image_stage(config, small=deployment.small_image_encoder)
        if config != committed:
            write_config(config, path)


def _set_image_stage(config: ModelConfig, *, small: bool) -> None:
    """On a CPU host: one thread for each process of a small encoder, short queues for a large one."""
    if not small:
        config.dynamic_batching.default_queue_policy.max_queue_size = LARGE_ENCODER_QUEUE
    elif config.name == "image_encoder":
        config.parameters["INTRA_OP_THREAD_COUNT"].string_value = "1"


def _set_shapes(config: ModelConfig, deployment: Deployment) -> None:
    for name, dims in _tensors(config):
        known = deployment.dims(name)
        if known is not None:
            dims[len(dims) - len(known) :] = known


def _tensors(config: ModelConfig) -> Iterator[tuple[str, list[int]]]:
    """Every (name, dims) of a config; the dims can be assigned to."""
    for tensor in (*config.input, *config.output):
        yield tensor.name, tensor.dims
    for warmup in config.model_warmup:
        for name, tensor in warmup.inputs.items():
            yield name, tensor.dims


def set_cpu_host(config: ModelConfig) -> None:
    """Instances, queues and warm-up for the embedded server (Triton 2.51), and one chain in place of two branches.

    For the config of one model, in place.
    """
    for group in config.instance_group:
        if group.kind == ModelInstanceGroup.KIND_GPU:
            group.kind = ModelInstanceGroup.KIND_AUTO  # a GPU, where the machine has one after all
        group.count = CPU_BATCHED_INSTANCES if config.HasField("dynamic_batching") else 1
    if config.HasField("dynamic_batching"):
        config.dynamic_batching.default_queue_policy.max_queue_size = CPU_MAX_QUEUE
    if config.model_warmup:
        # Nothing is compiled or chosen by shape on a CPU, and a batch of 64 would take it seconds: once, at batch 1.
        first = ModelWarmup.FromString(config.model_warmup[0].SerializeToString())
        first.count = 1
        del config.model_warmup[:]
        config.model_warmup.append(first)
    if config.name == "compare":
        _gate_texts(config)


def _gate_texts(config: ModelConfig) -> None:
    """Let the text branch of `compare` begin when the image branch has ended (overlay/text_gate says why)."""
    steps = config.ensemble_scheduling.step
    tokenize = next(step for step in steps if step.model_name == "text_tokenize")
    tokenize.input_map["text"] = "gated_text"
    gate = steps.add(model_name="text_gate", model_version=-1)
    gate.input_map["image_features"] = "image_features"
    gate.input_map["text"] = "text"
    gate.output_map["gated_text"] = "gated_text"
