"""Small pictures of images, to be looked at."""

from PIL import Image, ImageOps


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The image in RGB and upright, ``side`` pixels at most; what is transparent is white. The image given is spent."""
    image.draft("RGB", (side, side))  # JPEGs are decoded at a fraction of their size
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        with_alpha = upright.convert("RGBA")
        upright = Image.new("RGB", with_alpha.size, "white")
        upright.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return upright.convert("RGB")
