"""tritonclip's server side: what makes a served repository, runs one on a host without a GPU, and stands before Triton.

    weights ──export──> served repository ──> Triton (the container, or `embedded`) <──gRPC── gateway <── programs

`finetune` makes weights of weights and labelled images. Each part brings its own requirements (extras `export`,
`finetune`, `embedded`, `gateway`), and none imports another, but for `finetune`, which is built on `export`, and the
command line (`cli`), which loads the one that is asked for.
"""

from tritonclip_server._version import __version__

__all__ = ["__version__"]
