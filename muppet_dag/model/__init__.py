"""One encoder (or encoder-decoder), many heads, the losses."""
