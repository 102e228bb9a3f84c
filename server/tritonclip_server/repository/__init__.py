"""A served repository as files: what `export` writes, `embedded` starts, and tests and load experiments read.

    manifest.json ........................ manifest: what is deployed, with digests of all artifacts
    */config.pbtxt ....................... configs: Triton's own protobuf, as text
    head_*/1/label_set.json, labels ..... label_sets: what a stored classifier was made of
    all of it, checked ................... check, by the code that Triton runs too

`model_repository/manifest/1/deployed.py` reads the same files inside Triton, where nothing of this package is there:
it stands alone, and shares no code with what is here.
"""
