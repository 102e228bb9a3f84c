"""The embedded Triton: a real server from the wheel `nvidia-pytriton`, with no Docker and no GPU.

    tritonclip-server serve ──starts──> tritonserver ──starts──> one stub process for each Python model instance
                                     └── platform pytorch_libtorch ──> backend/pytorch, a stand-in for LibTorch

It serves what `tritonclip-server export VARIANT --host cpu` publishes. Its binary is Triton 2.51: many
advisories are fixed only after it, so it listens on loopback unless told otherwise. Production runs the
container (docker-compose.yml).
"""
