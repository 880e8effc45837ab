"""The proof: a hash tree a tenant over all closed records, its signed heads, witness and export bundles."""
