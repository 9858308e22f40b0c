"""Reads a task file as SkyPilot does before it looks for a machine: schema, resources, mounts. No cloud and no account is asked."""

import os
import pathlib
import sys
import tempfile

file = sys.argv[1]
with tempfile.TemporaryDirectory() as home:
    os.environ.update(HOME=home, SKYPILOT_DISABLE_USAGE_COLLECTION="1")
    # The names of accelerators, which SkyPilot would fetch from its catalogue.
    catalog = pathlib.Path(home, ".sky/catalogs/v8/common")
    catalog.mkdir(parents=True)
    (catalog / "accelerators.csv").write_text("AcceleratorName,Clouds\nH100,aws\nA100-80GB,aws\n")
    (catalog / "metadata.csv").write_text("GPU,MemoryGB,Manufacturer\n")

    import sky

    task = sky.Task.from_yaml(file)
    task.validate()
    print(f"SkyPilot {sky.__version__} reads {file}: {sorted(map(str, task.resources))}, mounts {sorted(task.storage_mounts)}")
