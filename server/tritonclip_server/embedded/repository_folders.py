"""Where served repositories lie: a folder is one, or holds some, which one Triton then carries together.

Runs in any Python 3 without packages: `deploy/docker/start_triton` takes it along.
"""

from pathlib import Path

MANIFEST = "manifest.json"  # has every served repository


def repositories_in(folder: Path) -> list[Path]:
    """The served repositories that lie in a folder, by their folders' names; itself, where it is one or has none."""
    if (folder / MANIFEST).exists():
        return [folder]
    return sorted(manifest.parent for manifest in folder.glob(f"[!.]*/{MANIFEST}")) or [folder]
