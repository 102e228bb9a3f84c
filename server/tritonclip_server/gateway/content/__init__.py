"""What requests hold: texts, images and labels, in every way in which callers write them."""
