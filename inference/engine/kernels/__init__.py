"""The engine's own operations, `torch.ops.custos`: attention over the paged cache, linear over packed weights.

`ops` defines them once, with implementations in Python that are correct on any device and dtype. `build` compiles
`kernels.cpp` where a C++ compiler is there and puts it in their place on the CPU. `packing` lays weights out for them.
May import torch and nothing else of Custos.
"""
