"""What things cost: each module is a command, `python -m benchmarks.NAME --help`.

step           a stream batch of every strategy, part by part
selection      RALS beside a plain step on as many rows
objectives     CLIP's objectives beside InfoNCE
seeds          several seeds, in turn and together
against_torch  a stream batch of CLIMB beside the same one in plain PyTorch
memory_ops     the memories' operations, CLIMB's beside a list-based one in PyTorch
full_run       Split CIFAR-100 from end to end on this machine's accelerator
agreement      whether the accelerator computes what a CPU does
gpu            all that is to be measured on a GPU, one after the other
conv_loops     convolutions inside loops on a CPU
conv_layers    single convolutions and their gradients on a CPU
augment        augmentations and their operations

docs/performance.md has the results and says how to read them.
"""
