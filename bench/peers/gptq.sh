#!/bin/sh
# Installs GPTQModel into a virtual environment of its own for `hola bench compression`.
#   bench/peers/gptq.sh FOLDER      then: export GPTQMODEL_PYTHON=FOLDER/bin/python
# Some minutes; about 2 GB on disk, and 6 where the torch it asks for brings CUDA. Not a dependency of HOLA.
set -eu
out=${1:?usage: gptq.sh FOLDER}
python3 -m venv "$out"
"$out/bin/python" -m pip install --quiet torch setuptools wheel ninja packaging numpy
"$out/bin/python" -m pip install --quiet --no-build-isolation 'gptqmodel>=7.7,<8'
echo "$out/bin/python"
