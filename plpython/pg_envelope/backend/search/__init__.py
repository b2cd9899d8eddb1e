"""Search without decrypting: keyed tokens beside the envelopes, and the types and operators that compare them."""
