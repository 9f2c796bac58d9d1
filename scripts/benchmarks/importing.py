"""Import modules: `python -I -B importing.py ROOT COUNT` imports that many of the tree's, and prints the seconds."""

import importlib
import os
import sys
import time

root, count = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, root)
began = time.perf_counter()
done = 0
for package in sorted(os.listdir(root)):
    for name in sorted(os.listdir(os.path.join(root, package))):
        if done < count and name.startswith("module"):
            importlib.import_module(f"{package}.{name.removesuffix('.py')}")
            done += 1
print(time.perf_counter() - began)
assert done == count
