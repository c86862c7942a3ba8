#!/bin/sh
# Builds llama.cpp's quantizers (libggml-base, no model code) for `hola bench compression`.
#   bench/peers/ggml.sh FOLDER      then: export HOLA_BENCH_GGML=FOLDER/libggml-base.so
# Needs pip, cmake, a C++ compiler; one to two minutes of CPU. Not a dependency of HOLA.
set -eu
out=${1:?usage: ggml.sh FOLDER}
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python -m pip download --quiet --no-deps --no-binary :all: \
    --dest "$scratch" 'llama-cpp-python>=0.3.36,<0.4'
tar -xzf "$scratch"/llama_cpp_python-*.tar.gz -C "$scratch"
source=$(echo "$scratch"/llama_cpp_python-*/vendor/llama.cpp/ggml)
cmake -S "$source" -B "$scratch/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON >/dev/null
cmake --build "$scratch/build" --target ggml-base --parallel 2 >/dev/null
library=$(find "$scratch/build" -name 'libggml-base.so*' -type f | head -n 1)
cp "$library" "$out/libggml-base.so"
echo "$out/libggml-base.so"
